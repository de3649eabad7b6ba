"""A change of the model that a service serves, as steps from stage to stage.

    preparing ─► ordered ─► loading ─ ready ───────────────────────────────► done
        │           │          ├─ ended, too slow, no room ─► going_back ──► back
        │           │          ├─ the same, and nothing to go back to ─────► failed
        │           │          └─ somebody stopped the service ────────────► left
        └─ cannot ──│────────────────────────────────────────────────────► refused
     any of them ───┴─ somebody else chose a model ────────────────────────► replaced

The model is a parameter, so setting it is all that a switch ever *does* (`todo`): that the old
program ends before the new one begins is the reconciler's rule for every new definition, and so
there are never two. What is still to be done follows from the switch itself and not from an event,
so that an agent that finds it on disk goes on where the one before it was killed. Whoever sets the
parameter past the switch (a KV edit, `lictor set`) has the last word: the switch ends and undoes
nothing. Pure; `runtime.models.switching` feeds it with what is seen, and does what it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from lictor.core.model.reason import Reason, because
from lictor.core.model.spec import ParamValue
from lictor.core.model.state import Phase, ServiceState

#: Seconds within which a document that was written comes back as what is wanted.
COMES_BACK = 30.0
#: Seconds within which a word that was given before ours may still arrive after it.
PASSES = 5.0
_FAILED = frozenset({Phase.BACKOFF, Phase.FAILED})


class Stage(StrEnum):
    """How far a switch is; the last six are ends."""

    PREPARING = "preparing"  # the driver makes what the new run needs; the old one serves
    ORDERED = "ordered"  # the parameter is being set
    LOADING = "loading"  # it is set: stop, start, load
    GOING_BACK = "going_back"  # the new one did not get ready: the old parameter is being set
    DONE = "done"
    BACK = "back"
    FAILED = "failed"
    LEFT = "left"
    REPLACED = "replaced"
    REFUSED = "refused"

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self not in _OPEN


_OPEN = frozenset({Stage.PREPARING, Stage.ORDERED, Stage.LOADING, Stage.GOING_BACK})


class Deed(StrEnum):
    """What a switch asks of the world."""

    PREPARE = "prepare"
    SET_NEW = "set_new"
    SET_OLD = "set_old"


@dataclass(frozen=True, slots=True)
class Switch:
    """One change of model.

    `model` is the new one, `before` the one that served. `values` are the parameters to set, `had`
    those of them that this node's document held before (the others are unset on the way back).
    `written`: the deed of this stage was done. `fell` is why the new one did not get ready (English,
    as it goes to disk). `blocked`: it could not run before either. `worse`: the old one failed too.
    `passing` are the models that may be in force before this one without anybody's doing: the one
    that is, and the one that the switch before was loading. `at` is Unix seconds, `since` when this
    stage began (seconds of `Clock.now`).
    """

    model: str
    before: str
    who: str
    at: float
    since: float
    stage: Stage = Stage.ORDERED
    values: Mapping[str, ParamValue] = field(default_factory=dict)
    had: Mapping[str, ParamValue] = field(default_factory=dict)
    written: bool = False
    fell: str = ""
    blocked: bool = False
    worse: bool = False
    passing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """What is so now. `model` is the one in force (None: the service is gone from the config).

    `wanted`: the service is to run. `fits`: its last run was started with what is in force now.
    `refused`: the document in KV is not valid. `why`: the sentence of its state.
    """

    model: str | None
    state: ServiceState
    wanted: bool = True
    fits: bool = False
    refused: bool = False
    why: str = ""


def begin(
    model: str,
    seen: Seen,
    *,
    values: Mapping[str, ParamValue],
    had: Mapping[str, ParamValue],
    who: str,
    at: float,
    now: float,
    prepares: bool,
    earlier: Switch | None = None,
) -> Switch:
    """A new switch, in the place of an `earlier` one if that is not over.

    What it goes back to is the last model that served: the one that an open switch was loading has
    not shown that it can. `prepares`: the driver makes the new run's things beside the old run.
    """
    before, blocked = seen.model or "", seen.state.phase is Phase.BLOCKED
    passing: tuple[str, ...] = (before,)
    if earlier is not None and not earlier.stage.over:
        before, had, blocked = earlier.before, earlier.had, earlier.blocked
        passing = (*passing, before, earlier.model)
    return Switch(
        model=model,
        before=before,
        who=who,
        at=at,
        since=now,
        stage=Stage.PREPARING if prepares and model != seen.model else Stage.ORDERED,
        values=values,
        had=had,
        blocked=blocked,
        passing=tuple(dict.fromkeys(passing)),
    )


def todo(switch: Switch) -> Deed | None:
    """What is still to be done for the stage; the same until `done` says that it was."""
    if switch.written:
        return None
    return {
        Stage.PREPARING: Deed.PREPARE,
        Stage.ORDERED: Deed.SET_NEW,
        Stage.GOING_BACK: Deed.SET_OLD,
    }.get(switch.stage)


def done(switch: Switch, deed: Deed, *, now: float, problem: str = "") -> Switch:
    """The deed was done, or (`problem`) the driver cannot prepare the new run."""
    if todo(switch) is not deed:
        return switch
    if deed is not Deed.PREPARE:
        return replace(switch, written=True, since=now)
    if problem:
        return _to(switch, Stage.REFUSED, now, fell=problem)
    return _to(switch, Stage.ORDERED, now)


def step(switch: Switch, seen: Seen, *, now: float) -> Switch:
    """The switch after a look at the world; itself when nothing follows from it."""
    if switch.since > now:  # the host began anew, and with it the clock
        switch = replace(switch, since=now)
    if switch.stage.over:
        return switch
    if seen.model is None:
        return _to(switch, Stage.REPLACED, now)
    match switch.stage:
        case Stage.PREPARING:
            return switch if seen.model in switch.passing else _to(switch, Stage.REPLACED, now)
        case Stage.ORDERED:
            return _ordered(switch, seen, now)
        case Stage.LOADING:
            return _loading_step(switch, seen, now)
        case _:
            return _going_back(switch, seen, now)


def _ordered(switch: Switch, seen: Seen, now: float) -> Switch:
    if not switch.written:
        return switch  # perhaps an agent that was killed has written it: twice does no harm
    if seen.model == switch.model:
        return _loading_step(_to(switch, Stage.LOADING, now), seen, now)
    if seen.refused:
        return _to(switch, Stage.REFUSED, now, fell=seen.why)
    if now - switch.since > COMES_BACK:
        return _to(switch, Stage.REPLACED, now)
    return switch


def _loading_step(switch: Switch, seen: Seen, now: float) -> Switch:
    if seen.model != switch.model:
        late = seen.model in switch.passing and now - switch.since < PASSES
        return switch if late else _to(switch, Stage.REPLACED, now)
    state = seen.state
    if seen.fits and _was_ready(state):
        return _to(switch, Stage.DONE, now)
    if not seen.wanted:
        return _to(switch, Stage.LEFT, now)
    failed = seen.fits and (state.phase in _FAILED or state.done)
    if not failed and not (state.phase is Phase.BLOCKED and not switch.blocked):
        return switch
    if switch.before in {switch.model, ""}:
        return _to(switch, Stage.FAILED, now, fell=seen.why)
    return _to(switch, Stage.GOING_BACK, now, fell=seen.why)


def _going_back(switch: Switch, seen: Seen, now: float) -> Switch:
    if seen.model == switch.before:
        if seen.fits and _was_ready(seen.state):
            return _to(switch, Stage.BACK, now)
        failed = seen.fits and (seen.state.phase in _FAILED or seen.state.done)
        if failed or seen.state.phase is Phase.BLOCKED:
            return _to(switch, Stage.BACK, now, worse=True)
        return switch if seen.wanted else _to(switch, Stage.BACK, now)
    if seen.model != switch.model or (switch.written and now - switch.since > COMES_BACK):
        return _to(switch, Stage.REPLACED, now)
    return switch


def _was_ready(state: ServiceState) -> bool:
    return state.phase.running and state.ready_since is not None


def _to(
    switch: Switch, stage: Stage, now: float, *, fell: str | None = None, worse: bool = False
) -> Switch:
    kept = switch.fell if fell is None else fell
    return replace(switch, stage=stage, since=now, written=False, fell=kept, worse=worse)


def told(switch: Switch) -> Reason:
    """The one sentence about a switch; while it loads, `model_progress` has more to say."""
    model, before, fell = switch.model, switch.before, switch.fell
    match switch.stage:
        case Stage.PREPARING:
            return because("model.preparing", model=model, before=before)
        case Stage.ORDERED:
            return because("model.ordered", model=model, before=before, by=switch.who)
        case Stage.LOADING:
            return because("model.loading", model=model)
        case Stage.GOING_BACK:
            return because("model.going_back", model=before, failed=model, why=fell)
        case Stage.DONE:
            return because("model.switched", model=model, before=before)
        case Stage.BACK if switch.worse:
            return because("model.back_worse", model=before, failed=model, why=fell)
        case Stage.BACK:
            return because("model.back", model=before, failed=model, why=fell)
        case Stage.FAILED:
            return because("model.failed", model=model, why=fell)
        case Stage.LEFT:
            return because("model.left", model=model)
        case Stage.REFUSED:
            return because("model.refused", model=model, before=before, why=fell)
        case _:
            return because("model.replaced", model=model)
