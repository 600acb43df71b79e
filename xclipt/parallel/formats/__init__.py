"""The formats that parallel sentences come in, a module each."""
