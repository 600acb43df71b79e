"""Deltas in forms that other programs load."""
