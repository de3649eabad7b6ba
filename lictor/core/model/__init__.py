"""Nouns: frozen values without behaviour that could fail.

Pure: no clock, no randomness, no file, no loop, no third party. Times are numbers that somebody
passed in: *monotonic* seconds where durations are measured, *wall* (Unix) seconds where people read.
"""
