"""What a user's own data may look like: a folder, a table, line files."""
