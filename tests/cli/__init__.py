"""The command line, run as people run it, against an agent that only speaks the protocol."""
