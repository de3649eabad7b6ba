"""The docker driver: services that are containers of a Docker engine.

The driver proper is in `driver`; `gate` alone speaks with the library, and is imported only once a
service asks for an engine, in a thread. Nothing here waits for an engine in the agent's loop.
"""
