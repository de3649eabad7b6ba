"""Tests from outside: the real program, real processes, a real Consul."""
