"""Keys, state, documents and holds as JSON rows, for the store. Unknown or broken rows become None."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from lictor.core.model.desired import DesiredState, Hold, Override
from lictor.core.model.names import BadName, ServiceKey
from lictor.core.model.reason import Reason
from lictor.core.model.state import Exit, Health, Identity, Phase, ServiceState

_STATE = tuple(field.name for field in fields(ServiceState))


def key_from(name: str) -> ServiceKey | None:
    """The service that a row is about, or None if its key names none."""
    try:
        return ServiceKey.parse(name)
    except BadName:
        return None


def state_row(state: ServiceState) -> dict[str, object]:
    """One service's state as a row."""
    # Not `asdict`: it copies deeply, and costs more than all else that a change of state does.
    row: dict[str, object] = {name: getattr(state, name) for name in _STATE}
    row["identity"] = _flat(state.identity)
    row["last_exit"] = _flat(state.last_exit)
    row["phase"] = state.phase.value
    row["health"] = state.health.value if state.health else None
    row["reason"] = _reason_row(state.reason)
    row["ended_because"] = _reason_row(state.ended_because) if state.ended_because else None
    return row


def _reason_row(reason: Reason) -> dict[str, object]:
    return {"code": reason.code, "params": dict(reason.params)}


def _flat(value: Identity | Exit | None) -> dict[str, object] | None:
    """A dataclass of plain values as a row."""
    if value is None:
        return None
    return {field.name: getattr(value, field.name) for field in fields(value)}


def state_from(row: Mapping[str, Any]) -> ServiceState | None:
    """The state of a row, or None if it is not one (an older or newer version, a torn write)."""
    try:
        told = dict(row)
        reason = told.pop("reason")
        identity, exit_ = told.pop("identity"), told.pop("last_exit")
        health, ended = told.pop("health"), told.pop("ended_because", None)
        return ServiceState(
            **{**told, "phase": Phase(told["phase"])},
            reason=Reason(str(reason["code"]), reason["params"]),
            identity=Identity(**identity) if identity else None,
            last_exit=Exit(**exit_) if exit_ else None,
            health=Health(health) if health else None,
            ended_because=Reason(str(ended["code"]), ended["params"]) if ended else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def override_row(override: Override) -> dict[str, object]:
    """One document in force as a row."""
    row = asdict(override)
    row["state"] = override.state.value if override.state else None
    return row


def override_from(row: Mapping[str, Any]) -> Override | None:
    """The document of a row, or None if it is not one."""
    try:
        told = dict(row)
        state = told.pop("state")
        return Override(**told, state=DesiredState(state) if state else None)
    except (KeyError, TypeError, ValueError):
        return None


def hold_row(hold: Hold) -> dict[str, object]:
    """One hold as a row."""
    return {**asdict(hold), "state": hold.state.value}


def hold_from(row: Mapping[str, Any]) -> Hold | None:
    """The hold of a row, or None if it is not one."""
    try:
        until = row["until"]
        return Hold(
            state=DesiredState(row["state"]),
            by=str(row["by"]),
            reason=str(row["reason"]),
            since=float(row["since"]),
            until=None if until is None else float(until),
        )
    except (KeyError, TypeError, ValueError):
        return None
