"""The imperative shell: what keeps running, and the only part of the core where things may fail.

`agent` holds it all together; `reconciler` turns snapshots into plans and hands them to `runner`s,
one per service; `registrar` keeps Consul true; `control` answers the CLI.
"""
