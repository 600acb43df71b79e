"""What xclipt keeps on disk: the artifact directory, deltas, feature caches."""
