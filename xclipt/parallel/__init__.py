"""Parallel sentences: in what files they come, which are fit for use, and where they are kept."""
