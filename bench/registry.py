"""What Lictor costs Consul, and how quickly one follows the other.

One Consul of its own serves all of it; each row of the table has a module of its own.
"""

from __future__ import annotations

import argparse

import child
import common
import consul_server
import following
import registering
import resting
import switching
import unchanged


def report(many: int = 500, entries: int = 1000) -> str:
    """The section of the benchmark page; `entries` unchanged ones are compared."""
    with common.scratch() as top, consul_server.started(top) as where:
        if where is None:
            return "## Consul\n\nLeft out: there is no Consul program on this machine.\n"
        program = child.build(top)
        rows = [
            *unchanged.report(where, entries),
            registering.report(top, where, many),
            following.report(top, where, program),
            resting.report(top, where, many),
            switching.report(top, where, program),
        ]
    head = ["", "Lictor, ms or as named", "beside it, ms", "ratio"]
    return (
        "## Consul\n\nOne Consul server on the same machine; each row beside the least that could do "
        "the same. A registered service has two checks. An answer that is the same text as before is "
        "not decoded and made sense of again.\n\n" + common.table(head, rows) + "\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--many", type=int, default=500)
    options = parser.parse_args()
    print(report(options.many))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
