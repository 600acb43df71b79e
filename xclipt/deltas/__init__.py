"""Deltas: which modules are put into the text tower, and the tensors that are trained in them."""
