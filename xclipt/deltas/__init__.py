"""Deltas: small trained modules in a copy of the text tower; each kind is one file."""
