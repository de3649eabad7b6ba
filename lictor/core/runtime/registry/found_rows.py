"""What discovery said last, as rows for the store: so that an agent that begins without Consul knows.

Only the answer about everything is kept, bounded in instances and bytes, and a new row only where it
says something new; how old it is stands in a small row of its own. A row of another version, or one
that is damaged, is no answer. Functions of values; the disk is the store's, which writes old or new,
never half.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from lictor.core.ports import Instance

#: What one host remembers of a cluster: more than that is asked of Consul only.
MOST = 2000
MOST_BYTES = 1024 * 1024
_OUTPUT = 200  # characters of what a check said


def rows_of(instances: Sequence[Instance]) -> list[dict[str, object]] | None:
    """The instances as plain values; None where they are too many to be kept."""
    if len(instances) > MOST:
        return None
    rows = [asdict(replace(one, output=one.output[:_OUTPUT])) for one in instances]
    for row in rows:
        row["tags"] = list(row["tags"])
    return rows if len(json.dumps(rows)) <= MOST_BYTES else None


def instances_of(rows: object) -> list[Instance] | None:
    """What `rows_of` gave; None for anything else."""
    if not isinstance(rows, list):
        return None
    try:
        return [_instance(row) for row in rows]
    except (TypeError, ValueError, KeyError, AttributeError):
        return None


def _instance(row: Mapping[str, Any]) -> Instance:
    texts = {name: str(row[name]) for name in ("service", "id", "node", "address")}
    return Instance(
        **texts,
        port=int(row["port"]),
        tags=tuple(str(tag) for tag in row["tags"]),
        meta={str(name): str(value) for name, value in row["meta"].items()},
        health=str(row["health"]),
        output=str(row["output"]),
        check=str(row.get("check", "")),
    )
