"""Text to model: every example here goes through the real file system and the real parser."""
