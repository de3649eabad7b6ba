"""The command line: parse, ask the agent over its socket, print.

Every command is thin and starts fast: this package imports neither the agent nor Consul nor any
heavy library, except in `wiring`, the composition root, which the others call by name. What a
service does is decided by the agent alone.
"""
