"""What tests make their material with."""
