"""The docker driver against a real engine, and its parts that need none."""
