"""What other nodes need to know of a service here, beyond what a person is shown.

Who decided, until when, what else needs it, which restart was acted on last: with it an order from
another node is refused or waited for as it would be here. It holds nothing that changes often (KV is
a raft log) and nothing secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lictor.core.model.desired import DesiredService, Source
from lictor.core.model.names import ServiceKey
from lictor.core.model.state import ServiceState
from lictor.core.runtime import views


def document(
    view: Mapping[str, Any],
    want: DesiredService | None,
    state: ServiceState,
    held_as: ServiceKey | None,
) -> dict[str, Any]:
    """The document of `lictor/actual/<node>/<service>`, without its time.

    `source` is who decided (config, kv_all, kv_node, hold) and `held_as` the name that is held: its own,
    or that of the whole service of which it is an instance. `needs` are the services that it cannot
    do without; `done`: it ended by itself, and only an order starts it again; `restart_order` is
    the last order to restart that was acted on (Unix seconds).
    """
    refused = views.say(want.refused) if want is not None and want.refused else None
    meant: dict[str, Any] = {
        "reasons": view["reasons"],
        "done": state.done,
        "restart_order": state.operator_restart_wall,
        "held_as": None if held_as is None else str(held_as),
    }
    if want is not None:
        meant |= {
            "source": want.source.value,
            "by": want.by,
            "why": want.why,
            "until": want.until if want.source is not Source.CONFIG else None,
            "needs": [dep.name for dep in want.spec.depends_on if dep.required],
        }
    return {**views.actual_document({**view, "refused": refused}), **meant}
