"""Worlds to decide about: what is wanted, what is, and documents that say so."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from hypothesis import strategies as st

from lictor.core.model.desired import (
    DesiredChange,
    DesiredService,
    DesiredState,
    Entry,
    KvSnapshot,
    Override,
    Source,
)
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import because
from lictor.core.model.spec import Dependency, HealthSpec, ParamSpec, ProbeSpec, ServiceSpec
from lictor.core.model.state import Identity, Phase, ServiceState

NAMES = ("a", "b", "c", "d", "e")
KEYS = (*(ServiceKey(name) for name in NAMES), ServiceKey("c", "x"), ServiceKey("c", "y"))
WALL = 1_700_000_000.0
PARAMS = {"model": ParamSpec("small"), "beams": ParamSpec(1)}

names = st.sampled_from(NAMES)
keys = st.sampled_from(KEYS)
walls = st.sampled_from([WALL - 10, WALL, WALL + 10])


@st.composite
def specs(draw, key: ServiceKey) -> ServiceSpec:
    """A service that depends only on names before its own: no cycle, as the loader guarantees."""
    earlier = NAMES[: NAMES.index(key.name)]
    needed = draw(st.lists(st.sampled_from(earlier), unique=True)) if earlier else []
    return ServiceSpec(
        key=key,
        command=(draw(st.sampled_from(["one", "two"])),),
        depends_on=tuple(Dependency(name, required=draw(st.booleans())) for name in needed),
        health=HealthSpec(
            probe=draw(st.sampled_from([None, ProbeSpec("http", f"http://h/{key}")])),
            on_unhealthy=draw(st.sampled_from(["restart", "ignore"])),
        ),
        tags=tuple(draw(st.lists(names, max_size=2))),
        registered=draw(st.booleans()),
    )


@st.composite
def wishes(draw, key: ServiceKey) -> DesiredService:
    return DesiredService(
        spec=draw(specs(key)),
        state=draw(st.sampled_from(DesiredState)),
        source=draw(st.sampled_from(Source)),
        restart_wall=draw(st.none() | walls),
        by=draw(st.sampled_from(["", "anna"])),
        blocked=draw(st.none() | st.just(because("blocked.mode", mode="m", modes="n"))),
    )


@st.composite
def wanted(draw) -> dict[ServiceKey, DesiredService]:
    chosen = draw(st.lists(keys, unique=True))
    return {key: draw(wishes(key)) for key in chosen}


@st.composite
def states(draw, key: ServiceKey, phases: Iterable[Phase] = Phase) -> ServiceState:
    phase = draw(st.sampled_from(tuple(phases)))
    fingerprint = ServiceSpec(key=key, command=(draw(st.sampled_from(["one", "two"])),))
    return ServiceState(
        phase=phase,
        reason=draw(st.sampled_from([because("ready"), because("exit.code", code=1)])),
        fingerprint=draw(st.sampled_from(["", fingerprint.fingerprint()])),
        identity=Identity(1, 1, "b") if phase.running else None,
        started_wall=draw(st.none() | walls),
        next_start=draw(st.none() | st.floats(0, 200)) if phase is Phase.BACKOFF else None,
        operator_restart_wall=draw(st.none() | walls),
        failures=draw(st.integers(0, 3)),
        done=draw(st.booleans()) if phase is Phase.STOPPED else False,
        unregistered=draw(st.booleans()),
    )


@st.composite
def actual(draw, phases: Iterable[Phase] = Phase) -> dict[ServiceKey, ServiceState]:
    chosen = draw(st.lists(keys, unique=True))
    return {key: draw(states(key, phases)) for key in chosen}


# --- documents ---------------------------------------------------------------------------------

texts = st.sampled_from(["", "anna", "because"])
times = walls.map(lambda unix: datetime.fromtimestamp(unix, UTC).isoformat())
params = st.fixed_dictionaries(
    {}, optional={"model": st.sampled_from(["small", "large"]), "beams": st.integers(1, 3)}
)


@st.composite
def changes(draw) -> DesiredChange:
    """Any change a verb could make; `by` is always told, as every verb tells it."""
    if draw(st.integers(0, 5)) == 0:
        return DesiredChange(remove=True)
    return DesiredChange(
        state=draw(st.none() | st.sampled_from([state.value for state in DesiredState])),
        params=draw(params),
        unset_params=tuple(draw(st.lists(st.sampled_from(sorted(PARAMS)), unique=True))),
        clear_state=draw(st.booleans()),
        restart=draw(st.none() | times),
        until=draw(st.none() | times),
        by=draw(st.sampled_from(["anna", "bert"])),
        reason=draw(texts),
    )


@st.composite
def overrides(draw) -> Override:
    return Override(
        state=draw(st.none() | st.sampled_from(DesiredState)),
        params=draw(params),
        restart=draw(st.none() | walls),
        until=draw(st.none() | walls),
        by=draw(texts),
        reason=draw(texts),
    )


@st.composite
def entries(draw) -> Entry:
    if draw(st.booleans()):
        return Entry("good", override=draw(overrides()))
    return Entry("bad", refused=because("kv.not_object"))


snapshots = st.builds(
    KvSnapshot,
    node=st.dictionaries(keys, entries(), max_size=4),
    all_nodes=st.dictionaries(keys, entries(), max_size=4),
)
