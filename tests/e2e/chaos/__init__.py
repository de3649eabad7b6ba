"""A host, its agent and its Consul under steps drawn at random, and what must be true after each."""
