"""Finding pictures in a folder by what they show."""
