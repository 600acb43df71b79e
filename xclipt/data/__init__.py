"""Captioned pictures: the embedded emoji, the known public sets, and the user's own folders."""
