"""Questions to the world that change nothing: does a service answer, what does it use, who holds a port.

Every probe has a limit in time and size, and what a service says is made safe to show.
"""
