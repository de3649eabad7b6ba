"""What may be asked of the agent: nothing in here changes anything.

`questions` lists what the CLI may ask; each `..._view` is one subject as people and programs see it.
"""
