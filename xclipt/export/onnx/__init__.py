"""Towers as ONNX graphs: one with its delta, in int8, or one that takes deltas as inputs."""
