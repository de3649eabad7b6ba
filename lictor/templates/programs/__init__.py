"""Small programs and settings that `lictor install` puts beside what it installs.

They run in a service's own environment, never in Lictor's; nothing imports them from here.
"""
