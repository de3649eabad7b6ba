"""Why an instance is not in the answer that somebody gets, in one reason.

DNS only leaves out; it never says whom or why. `lictor discover` and `lictor resolve` do, for their
own services and for strangers' alike, from what Consul holds. Nothing here asks anybody.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from lictor.core.model.reason import Reason, because
from lictor.core.planning.groups import GROUP_META, STANDBY

_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")
_LOST_NODE = "serfHealth"  # the check that Consul itself gives to each node


def left_out(
    *,
    health: str,
    check: str,
    output: str,
    node: str,
    tags: Collection[str],
    service: str,
    tag: str | None = None,
) -> Reason | None:
    """Why `[tag.]name.service.consul` does not give an instance; None: it does.

    `service` is its name; `health` and `output` are those of its worst `check` (the id).
    """
    if tag is not None and tag.lower() not in {each.lower() for each in tags}:
        return because("left_out.tag", tag=tag)
    if health == "maintenance":
        return because("left_out.maintenance", output=output or "-")
    if health == "critical" and check == _LOST_NODE:
        return because("left_out.node_lost", node=node)
    if health == "critical":
        return because("left_out.critical", output=output or "-")
    if not _can_be_carried(service):
        return because("left_out.unsafe", name=service)
    return None


def _can_be_carried(name: str) -> bool:
    """Whether Consul's DNS can be asked for a service of this name: one label of plain characters.

    `_` and capitals can (1.8.7); a dot makes it the tag of another service.
    """
    return _LABEL.fullmatch(name) is not None


def stands_by(tags: Collection[str], meta: Mapping[str, str]) -> Reason | None:
    """Why the query of a group does not give a member that works; None: it is no such member."""
    group = meta.get(GROUP_META)
    if group is None or STANDBY not in tags:
        return None
    return because("left_out.standby", group=group)


def unexplained(question: str, *, query: bool, blind: bool) -> Reason:
    """Why an answer lacks one that passes, where nothing about itself says so.

    `query`: a prepared query was asked. `blind`: DNS may read nothing, as far as is known.
    """
    if query:
        return because("left_out.query", question=question)
    return because("left_out.anonymous") if blind else because("left_out.not_given")
