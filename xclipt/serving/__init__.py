"""Using deltas from Python: many languages on one backbone in memory."""
