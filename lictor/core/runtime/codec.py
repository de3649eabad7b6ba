"""State and desired documents as JSON rows, for the store. Unknown or broken rows become None."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lictor.core.model.desired import DesiredState, Override
from lictor.core.model.reason import Reason
from lictor.core.model.state import Exit, Health, Identity, Phase, ServiceState


def state_row(state: ServiceState) -> dict[str, object]:
    """One service's state as a row."""
    row = asdict(state)
    row["phase"] = state.phase.value
    row["health"] = state.health.value if state.health else None
    row["reason"] = _reason_row(state.reason)
    row["ended_because"] = _reason_row(state.ended_because) if state.ended_because else None
    return row


def _reason_row(reason: Reason) -> dict[str, object]:
    return {"code": reason.code, "params": dict(reason.params)}


def state_from(row: Mapping[str, Any]) -> ServiceState | None:
    """The state of a row, or None if it is not one (an older or newer version, a torn write)."""
    try:
        fields = dict(row)
        reason = fields.pop("reason")
        identity, exit_ = fields.pop("identity"), fields.pop("last_exit")
        health, ended = fields.pop("health"), fields.pop("ended_because", None)
        return ServiceState(
            **{**fields, "phase": Phase(fields["phase"])},
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
        fields = dict(row)
        state = fields.pop("state")
        return Override(**fields, state=DesiredState(state) if state else None)
    except (KeyError, TypeError, ValueError):
        return None
