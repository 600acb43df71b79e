"""Training a delta: losses, recipes and the loop."""
