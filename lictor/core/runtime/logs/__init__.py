"""The logs of services, as rows of bytes that the agent did not write and does not trust.

A log lies in several files (`rotation` moves its head into older ones): `pieces` makes one row of
them, `state` knows what became of its past, `index` finds a moment in it, `blocks` does the work on
bytes. `reading`, `follow` and `view` give it to people; `watch` and `watched` say that it grew.
"""
