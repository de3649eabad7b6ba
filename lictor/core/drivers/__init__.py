"""How services run: `process` for programs of this host, `observed` for what others run.

A driver starts, finds again and ends the processes of one service; when and why is decided in
`core.planning`. The contract is `Driver` and `Running` in `core.ports`.
"""
