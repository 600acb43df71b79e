"""The texts that are aligned: routines, pairs, and how far apart they are before any training."""
