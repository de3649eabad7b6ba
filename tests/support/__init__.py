"""Real things for the tests to run against, and small liars for what real things rarely do."""
