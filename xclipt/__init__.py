"""Teach one frozen image-text model a new language with a tiny delta."""

__version__ = "0.1.0"
