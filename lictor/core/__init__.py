"""What Lictor is. It knows no Consul, no HTTP framework and no terminal.

Read in this order: `model` (nouns), `planning` (pure decisions), `ports` (what the shell needs
from the world), then `config`, `drivers`, `probes`, and last `runtime`, which makes things happen.
"""
