"""Retrieval metrics, intervals, disparity, and the evaluation that puts them together."""
