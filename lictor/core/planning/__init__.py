"""Verbs: pure functions from values to values. Every decision Lictor makes is made here.

No loop, no clock, no chance, no file: `now` and `jitter` are arguments. So each rule can be shown
before it acts (`lictor plan`), attacked by property tests, and read without reading the shell.
"""
