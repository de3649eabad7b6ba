"""Text to model: config.yml in, a frozen `Config` out, or every problem with file:line:column.

The way of a file through this package, one module a step: `tree` (YAML with the place of every
key), `services` (templates and instances merged, as trees), `expand` (`${VAR}` and `{port}`),
`validate` with `schema` (types, unknown keys), `build` (a `ServiceSpec`), `crosscheck` (what only
shows when all services are seen together). `load` drives it. Nothing here starts, listens or talks
to Consul, and a file is either taken whole or refused whole.
"""
