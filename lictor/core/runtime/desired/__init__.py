"""What is wanted here, beyond config.yml: documents of KV, and holds.

`keeper` has the documents in force, with Consul or without; `holds` are an operator's word that no
document can overrule, `hold_inbox` takes those of other nodes.
"""
