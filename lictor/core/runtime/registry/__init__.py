"""The agent's side that faces Consul.

`consul_side` connects; `registrar` makes true what should be registered, `entry_writer` entry by
entry; `groups` says who is best in each; `finder` answers who offers a service; `membership` and
`publisher` tell other nodes of this one. Nobody here speaks HTTP: that is `consul_integration`.
"""
