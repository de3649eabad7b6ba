"""Lictor attends Consul: it runs what should run on this host and makes Consul tell the truth."""

__version__ = "0.1.0"
