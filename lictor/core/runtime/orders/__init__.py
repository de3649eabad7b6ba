"""What may be ordered of the agent: each order is a change of desired state, and may be refused.

`local` is for services of this host, `remote` and `remote_holds` for those of others; `refusals` says
what would hurt, `foresight` what an order would do.
"""
