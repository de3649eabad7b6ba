"""The imperative shell: what keeps running, and the only part of the core where things may fail.

`agent` holds it all together; `control` answers the CLI on a socket, and `operations` is everything
that the CLI and the HTTP API may ask or order. Below them, each a folder, from the top down (a folder
imports nothing from above it, which import-linter checks):

| folder        | what it does                                                            |
|---------------|-------------------------------------------------------------------------|
| `orders`      | what may be ordered, here and of other nodes, and what is refused       |
| `answers`     | what may be asked                                                       |
| `registry`    | keeps Consul true: entries, groups, what other nodes need to know       |
| `desired`     | documents and holds in force                                            |
| `gpu`         | gives cards out and proves that they are free again                     |
| `models`      | loads and switches of models                                            |
| `supervision` | plans and runners: the life of each service                             |
| `logs`        | reads, indexes and rotates what services print                          |
| `storage`     | the folder of the agent, its memory and journal                         |
| `host`        | the agent as a process of its host                                      |
"""
