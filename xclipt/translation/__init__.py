"""Translations: who makes them, which are fit for use, and where they are kept."""
