"""What the agent keeps on its disk: its folder, its memory, the journal.

`store` is one SQLite file, opened by `database` whatever has become of it; `codec` writes nouns as its
rows. `datadir` is the folder, one agent's at a time.
"""
