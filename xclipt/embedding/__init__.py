"""Features of texts and pictures in files, computed by one process or by many."""
