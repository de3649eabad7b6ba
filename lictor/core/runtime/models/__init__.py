"""Models of services: how far one is loaded, and one in the place of another."""
