"""Short ways to say what is wanted and what is, for tests that decide."""

from __future__ import annotations

from dataclasses import replace

from lictor.core.model.desired import DesiredService, DesiredState, Source
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import Dependency, HealthSpec, ProbeSpec, ServiceSpec
from lictor.core.model.state import Identity, Phase, ServiceState
from lictor.core.planning.reconcile import plan

NOW = 1000.0
WALL = 1_700_000_000.0
HTTP = ProbeSpec("http", "http://127.0.0.1:5000/info")


def key(text: str) -> ServiceKey:
    return ServiceKey.parse(text)


def spec(name: str = "piper", *, needs=(), likes=(), probe: ProbeSpec | None = None, **fields):
    """A spec; `needs` and `likes` are names of required and merely ordered dependencies."""
    edges = (*(Dependency(n) for n in needs), *(Dependency(n, required=False) for n in likes))
    fields.setdefault("command", ("run", name))
    fields.setdefault("health", HealthSpec(probe=probe))
    return ServiceSpec(key=key(name), depends_on=edges, **fields)


def want(name: str = "piper", state: str = "running", **fields) -> DesiredService:
    """What is wanted of a service; fields of the spec and of `DesiredService` may be mixed."""
    names = ("source", "restart_wall", "until", "by", "why", "refused", "blocked")
    own = {field: fields.pop(field) for field in names if field in fields}
    return DesiredService(spec=spec(name, **fields), state=DesiredState(state), **own)


def desired(*wants: DesiredService) -> dict[ServiceKey, DesiredService]:
    return {each.spec.key: each for each in wants}


def now_in(phase: str, of: ServiceSpec | None = None, **fields) -> ServiceState:
    """A state as a runner would hold it in that phase, running the definition `of`."""
    phase_ = Phase(phase)
    state = ServiceState(phase=phase_, since=NOW - 60)
    if phase_ not in {Phase.STOPPED, Phase.QUEUED, Phase.BLOCKED}:
        state = replace(
            state,
            started=NOW - 60,
            started_wall=WALL - 60,
            fingerprint=(of or spec()).fingerprint(),
        )
    if phase_.running:
        state = replace(state, identity=Identity(42, 7, "boot"))
    if phase_ in {Phase.READY, Phase.UNHEALTHY}:
        state = replace(state, ready_since=NOW - 50)
    return replace(state, **fields)


def steps(wanted, actual, now: float = NOW, **options) -> dict[str, tuple[str, str]]:
    """The plan as `{service: (verb, reason code)}`."""
    actual = {key(k) if isinstance(k, str) else k: state for k, state in actual.items()}
    done = plan(wanted, actual, now, **options).actions
    return {str(a.service): (a.verb.value, a.reason.code) for a in done}


__all__ = ["HTTP", "NOW", "WALL", "Source", "desired", "key", "now_in", "spec", "steps", "want"]
