"""What people and programs are shown of a service: one record, the same for CLI, API and dashboard.

Field names are the public contract. A value that was not measured is None; what is known to be
nothing (the memory of a stopped service) is 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from lictor.core.locales import render
from lictor.core.model.desired import DesiredService, DesiredState, Source
from lictor.core.model.names import ServiceKey
from lictor.core.model.plan import Action
from lictor.core.model.reason import Reason, because
from lictor.core.model.secret import shown
from lictor.core.model.spec import ParamRef, ServiceSpec
from lictor.core.model.state import Phase, ServiceState
from lictor.core.planning.reconcile import hold_reason, maintenance_reason
from lictor.core.ports import Usage

_MIB = 1024 * 1024
#: Ends about which the service's own last line says more than we can.
_WITH_LAST_LINE = frozenset(
    {
        *("exit.code", "exit.signal", "exit.oom", "exit.unknown", "exit.while_away"),
        *("start.exit_code", "start.exit_signal", "start.exit_oom", "start.exit_unknown"),
        *("start.before_failed", "start.timeout"),
    }
)
_HELD = frozenset({"held.stopped", "held.running", "held.maintenance"})
_PUBLISHED = (
    *("desired", "phase", "health", "sentence", "reason", "reason_params", "driver"),
    *("pid", "container_id", "address", "port", "restarts", "last_error"),
)


def say(reason: Reason, language: str = "en") -> str:
    """One reason as its sentence."""
    if not reason.params:
        return _said(reason.code, language)
    return render(reason.code, reason.params, language=language)


def told(reason: Reason) -> dict[str, Any]:
    """One reason in the three fields in which every record has it."""
    return {"sentence": say(reason), "reason": reason.code, "reason_params": dict(reason.params)}


def step(action: Action) -> dict[str, Any]:
    """One step of a plan, as `lictor plan` and every preview show it."""
    return {"action": action.verb.value, "service": str(action.service), **told(action.reason)}


@cache
def _said(code: str, language: str) -> str:
    """A sentence without parameters is always the same."""
    return render(code, {}, language=language)


def parts(state: ServiceState, want: DesiredService | None, *, now: float) -> list[Reason]:
    """Why the service is as it is: the main reason first, then what a person should know with it."""
    held = want is not None and want.source is Source.HOLD and bool(want.by)
    found = [state.reason]
    if want is not None and held and state.phase is Phase.STOPPED:
        found = [hold_reason(want)]  # whatever once stopped it: this is why it does not run
    if state.phase is Phase.BACKOFF and state.next_start is not None:
        delay = max(0.0, state.next_start - now)
        found.append(because("next_start", delay=round(delay, 1), failures=state.failures))
    ended = state.phase in {Phase.BACKOFF, Phase.FAILED}
    if ended and state.last_error and state.reason.code in _WITH_LAST_LINE:
        found.append(because("last_line", line=state.last_error))
    if state.phase is Phase.FAILED and want is not None:
        found.append(
            because("restart.never")
            if want.spec.restart.policy == "never"
            else because("restart.gave_up", failures=state.failures)
        )
    if state.phase is Phase.STARTING and state.started is not None:
        found.append(because("elapsed", elapsed=round(max(0.0, now - state.started), 1)))
    if state.phase is Phase.READY and state.failing_since is not None:
        found.append(because("health.failing", output=state.health_output))
    if state.phase is Phase.READY and state.restarts and state.ended_because is not None:
        found.append(because("restarted_because", count=state.restarts))
        found.append(state.ended_because)
    elif state.phase is Phase.READY and state.restarts:
        found.append(because("restarted", count=state.restarts))
    if want is not None and held:
        if found[0].code not in _HELD:
            found.append(hold_reason(want))
    elif want is not None and want.state is DesiredState.MAINTENANCE:
        found.append(maintenance_reason(want))
    if want is not None and want.until is not None and want.source is not Source.CONFIG:
        found.append(because("until", until=want.until))
    if want is not None and want.refused is not None:
        found.append(want.refused)
    return found


def record(
    key: ServiceKey,
    spec: ServiceSpec,
    state: ServiceState,
    want: DesiredService | None,
    *,
    node: str,
    now: float,
    usage: Usage | None,
    registered: bool | None,
    more: Iterable[Reason] = (),
) -> dict[str, Any]:
    """The record of `lictor status -o json`. `more`: what other parts have to say of it."""
    why = [*parts(state, want, now=now), *more]
    # (if nobody knows, the process table may still tell, and nothing is known to be 0)
    mute = state.phase is Phase.UNKNOWN
    running = (state.phase.running or mute) and state.identity is not None
    cpu, memory = drawn(state, usage)
    process = state.identity.pid if state.identity and state.identity.pid else None
    uptime = now - state.started if running and state.started is not None else 0.0
    return {
        "name": key.name,
        "instance": key.instance or None,
        "node": node,
        "driver": driver_of(spec, state),
        "desired": want.state.value if want else "stopped",
        "phase": state.phase.value,
        "health": state.health.value if state.health else None,
        "sentence": " ".join(say(part) for part in why),
        "reason": why[0].code,
        "reason_params": dict(why[0].params),
        "reasons": [{"code": part.code, "params": dict(part.params)} for part in why],
        "pid": process,
        "container_id": state.identity.container_id if state.identity else None,
        "address": spec.address,
        "port": spec.port,
        "uptime_s": round(uptime, 1),
        "restarts": state.restarts,
        "cpu_percent": cpu,
        "memory_mb": memory,
        "last_error": _last_error(state),
        "registered": registered,
        "description": spec.description,
        "display_name": spec.display_name or str(key),
    }


def drawn(state: ServiceState, usage: Usage | None) -> tuple[float | None, float | None]:
    """CPU percent and MiB that a service uses; None: not known. One that does not run uses nothing."""
    running = (state.phase.running and state.identity is not None) or state.phase is Phase.UNKNOWN
    if not running:
        return 0.0, 0.0
    if usage is None:
        return None, None
    cpu, memory = usage.cpu_percent, usage.memory_bytes
    return (
        None if cpu is None else round(cpu, 1),
        None if memory is None else round(memory / _MIB, 1),
    )


def driver_of(spec: ServiceSpec, state: ServiceState) -> str:
    """How it runs; of `auto`, what was decided, once something runs."""
    if spec.driver != "auto" or state.identity is None:
        return spec.driver
    return "process" if state.identity.container_id is None else "docker"


def figures(usage: Usage | None, *, running: bool) -> dict[str, Any]:
    """What `top` and `--verbose` add: counts over the whole tree."""
    names = ("processes", "threads", "fds", "connections")
    if not running:
        return dict.fromkeys(names, 0)
    return {name: None if usage is None else getattr(usage, name) for name in names}


def details(
    spec: ServiceSpec,
    state: ServiceState,
    want: DesiredService | None,
    *,
    now: float,
    log: str | None,
    containment: str | None = None,
    notes: Iterable[Reason] = (),
) -> dict[str, Any]:
    """What `--verbose` adds. Environment values are never part of it."""
    probe = spec.health.probe
    return {
        "command": [
            f"{{param.{part.name}}}" if isinstance(part, ParamRef) else part
            for part in spec.command
        ],
        "params": {name: shown(name, spec.param(name)) for name in spec.params},
        "cwd": spec.cwd,
        "user": spec.user,
        "log": log,
        "source": want.source.value if want else "config",
        "by": want.by if want else "",
        "why": want.why if want else "",
        "until": want.until if want else None,
        "refused": _refusal(want),
        "checks": [
            *(
                [
                    {
                        "name": "health",
                        "kind": probe.kind,
                        "target": _target(probe.target, probe.argv),
                    }
                ]
                if probe
                else []
            ),
            *(
                {"name": name, "kind": extra.kind, "target": _target(extra.target, extra.argv)}
                for name, extra in spec.checks.items()
            ),
        ],
        "health_output": state.health_output,
        "depends_on": [{"name": dep.name, "required": dep.required} for dep in spec.depends_on],
        "activation": spec.activation,
        "failures": state.failures,
        "next_start_s": None
        if state.next_start is None
        else max(0.0, round(state.next_start - now, 1)),
        "adopted": state.adopted,
        "containment": containment,
        "limits": dict(spec.limits.given()),
        "notes": [say(note) for note in notes],
    }


def actual_document(view: Mapping[str, Any]) -> dict[str, Any]:
    """The record as it is written to `lictor/actual/<node>/<service>`: only what changes rarely."""
    return {**{name: view[name] for name in _PUBLISHED}, "refused": view.get("refused")}


def _last_error(state: ServiceState) -> str | None:
    if state.last_error is None and state.phase in {Phase.BACKOFF, Phase.FAILED}:
        return say(state.reason)
    return state.last_error


def _refusal(want: DesiredService | None) -> str | None:
    return say(want.refused) if want is not None and want.refused is not None else None


def _target(target: str, argv: tuple[str, ...]) -> str:
    return target or " ".join(argv)
