"""Consul's adapter, against the real Consul."""
