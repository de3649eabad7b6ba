"""A switch of model ends, goes back when it must, and gives way to whoever chose last.

The world of the property is made of the real parts: the plan, the life of a service and the switch.
Only the document in KV, its slow way back and the outcome of a run are played.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lictor.core.model.desired import DesiredService, DesiredState
from lictor.core.model.names import ServiceKey
from lictor.core.model.plan import Verb
from lictor.core.model.reason import because
from lictor.core.model.spec import ParamRef, ParamSpec, RestartPolicy, ServiceSpec
from lictor.core.model.state import Exit, Identity, Phase, ServiceState
from lictor.core.planning import lifecycle
from lictor.core.planning.model_switch import (
    COMES_BACK,
    PASSES,
    Deed,
    Seen,
    Stage,
    Switch,
    begin,
    done,
    step,
    todo,
    told,
)
from lictor.core.planning.reconcile import plan
from lictor.core.runtime.models.switching import switch_from, switch_row

KEY = ServiceKey("vllm")
A, B, C, BAD, STUCK = "org/a", "org/b", "org/c", "org/bad", "org/stuck"
LOADS = Identity(7, 7, "boot")


def spec() -> ServiceSpec:
    return ServiceSpec(
        key=KEY,
        command=("vllm", "serve", ParamRef("model")),
        params={"model": ParamSpec(A)},
        restart=RestartPolicy(backoff=5.0),
    )


@dataclass
class World:
    """One service, its document, and the switch that an agent carries on."""

    now: float = 1000.0
    document: dict[str, str] = field(default_factory=dict)
    arrived: dict[str, str] = field(default_factory=dict)  # what the watch has brought
    wanted: DesiredState = DesiredState.RUNNING
    state: ServiceState = field(default_factory=ServiceState)
    runs: list[str] = field(default_factory=list)  # models that have a process now
    switch: Switch | None = None
    prepares: bool = False
    interfered: bool = False
    spec: ServiceSpec = field(default_factory=spec)

    @property
    def model(self) -> str:
        return str(self.spec.with_params(self.arrived).param("model"))

    def want(self) -> DesiredService:
        return DesiredService(spec=self.spec.with_params(self.arrived), state=self.wanted)

    def seen(self) -> Seen:
        fits = self.state.fingerprint == self.want().spec.fingerprint()
        running = self.wanted is DesiredState.RUNNING
        return Seen(self.model, self.state, wanted=running, fits=fits, why=self.state.reason.code)

    # --- what may happen ---

    def order(self, model: str) -> None:
        self.switch = begin(
            model,
            self.seen(),
            values={"model": model},
            had=dict(self.document),
            who="anna",
            at=self.now,
            now=self.now,
            prepares=self.prepares,
            earlier=self.switch,
        )

    def edit(self, model: str) -> None:
        self.document = {"model": model}
        self.interfered = True

    def toggle(self) -> None:
        running = self.wanted is DesiredState.RUNNING
        self.wanted = DesiredState.STOPPED if running else DesiredState.RUNNING
        self.interfered = True

    def arrive(self) -> None:
        self.arrived = dict(self.document)

    def killed(self) -> None:
        """The agent dies; the next one reads the switch from disk. The service goes on."""
        if self.switch is not None:
            self.switch = switch_from(json.loads(json.dumps(switch_row(self.switch))))
            assert self.switch is not None

    def look(self) -> None:
        if self.switch is not None:
            self.switch = step(self.switch, self.seen(), now=self.now)

    def act(self) -> None:
        deed = todo(self.switch) if self.switch is not None else None
        if self.switch is None or deed is None:
            return
        if deed is Deed.SET_NEW:
            self.document = dict(self.switch.values)
        elif deed is Deed.SET_OLD:
            self.document = dict(self.switch.had)
        self.switch = done(self.switch, deed, now=self.now)

    def act_and_die_before_noting_it(self) -> None:
        noted = self.switch
        self.act()
        self.switch = noted

    def reconcile(self) -> None:
        for action in plan({KEY: self.want()}, {KEY: self.state}, self.now).actions:
            if action.verb is Verb.START:
                fingerprint = self.want().spec.fingerprint()
                begun = lifecycle.starting(
                    self.state, action.reason, fingerprint=fingerprint, now=self.now, wall=self.now
                )
                self.state = lifecycle.spawned(begun, LOADS, self.want().spec)
                self.runs.append(self.model)
            elif action.verb in {Verb.STOP, Verb.RESTART}:
                self.state = lifecycle.stopping(self.state, action.reason, now=self.now)
            elif action.verb is Verb.REST:
                self.state = lifecycle.at_rest(self.state, action.reason, now=self.now)

    def pass_time(self) -> None:
        """A run comes to what its model lets it come to."""
        self.now += 1.0
        if self.state.phase is Phase.STOPPING:
            self.runs.clear()
            self.state = lifecycle.stopped(self.state, self.state.reason, Exit(0), now=self.now)
        elif self.state.phase is Phase.STARTING:
            (model,) = self.runs
            late = self.now - (self.state.started or 0) > 20
            if model == BAD or (model == STUCK and late):
                self.runs.clear()
                self.state = lifecycle.failed_run(
                    self.state,
                    self.spec,
                    because("start.exit_code", code=1),
                    Exit(1),
                    now=self.now,
                    jitter=0.0,
                )
            elif model != STUCK:
                self.state = lifecycle.ready(self.state, now=self.now)

    def settle(self, rounds: int = 200) -> None:
        for _ in range(rounds):
            self.look()
            self.act()
            self.arrive()
            self.reconcile()
            self.pass_time()
            assert len(self.runs) <= 1


def serving(model: str = A) -> World:
    world = World()
    world.settle(4)
    if model != A:
        world.document = {"model": model}
        world.settle(6)
    assert (world.state.phase, world.runs) == (Phase.READY, [model])
    return world


def test_a_model_that_gets_ready_is_the_end_of_it():
    world = serving()
    world.order(B)
    world.settle()
    assert (world.switch.stage, world.runs, world.document) == (Stage.DONE, [B], {"model": B})
    assert told(world.switch) == because("model.switched", model=B, before=A)


@pytest.mark.parametrize("bad", [BAD, STUCK])
def test_one_that_does_not_get_ready_makes_way_for_the_old_one_as_it_was_set(bad):
    world = serving()
    world.order(bad)
    world.settle()
    assert (world.switch.stage, world.runs) == (Stage.BACK, [A])
    assert world.document == {}  # nothing was set before, so nothing is set now
    said = told(world.switch)
    assert said.code == "model.back"
    assert said.params == {"model": A, "failed": bad, "why": "start.exit_code"}

    world = serving(B)
    world.order(bad)
    world.settle()
    assert (world.switch.stage, world.runs, world.document) == (Stage.BACK, [B], {"model": B})


def test_the_old_one_may_fail_too_and_that_is_said():
    world = serving()
    world.order(BAD)
    world.spec = replace(world.spec, params={"model": ParamSpec(STUCK)})
    world.switch = replace(world.switch, before=STUCK)
    world.settle()
    assert (world.switch.stage, world.switch.worse) == (Stage.BACK, True)
    assert told(world.switch).code == "model.back_worse"


def test_a_second_choice_replaces_the_first_and_goes_back_to_what_really_served():
    world = serving()
    world.order(STUCK)
    world.settle(5)
    assert world.switch.stage is Stage.LOADING
    world.order(BAD)
    assert (world.switch.before, world.switch.model) == (A, BAD)
    world.settle()
    assert (world.switch.stage, world.runs) == (Stage.BACK, [A])


def test_the_old_model_may_be_chosen_while_the_new_one_loads():
    world = serving()
    world.order(STUCK)
    world.settle(5)
    world.order(A)
    world.settle()
    assert (world.switch.stage, world.runs) == (Stage.DONE, [A])


@pytest.mark.parametrize("chosen", [C, A])
def test_an_edit_past_the_switch_wins_and_nothing_is_undone(chosen):
    world = serving()
    world.order(STUCK)
    world.settle(8)
    world.edit(chosen)
    world.settle()
    assert (world.switch.stage, world.runs) == (Stage.REPLACED, [chosen])
    assert world.document == {"model": chosen}


def test_a_service_that_somebody_stops_keeps_the_model_for_its_next_start():
    world = serving()
    world.order(STUCK)
    world.settle(5)
    world.toggle()
    world.settle(5)
    assert (world.switch.stage, world.runs) == (Stage.LEFT, [])
    assert told(world.switch) == because("model.left", model=STUCK)


def test_a_driver_that_cannot_prepare_leaves_everything_as_it_was():
    world = serving()
    world.prepares = True
    world.order(B)
    assert todo(world.switch) is Deed.PREPARE
    world.settle(0)
    world.look()
    assert (world.switch.stage, world.runs) == (Stage.PREPARING, [A])
    world.switch = done(world.switch, Deed.PREPARE, now=world.now, problem="There is no image.")
    world.settle()
    assert (world.switch.stage, world.runs, world.document) == (Stage.REFUSED, [A], {})


def test_what_is_prepared_is_set_only_when_it_is():
    world = serving()
    world.prepares = True
    world.order(B)
    world.settle()
    assert (world.switch.stage, world.runs) == (Stage.DONE, [B])


def test_an_edit_while_it_is_prepared_wins():
    world = serving()
    world.prepares = True
    world.order(B)
    world.edit(C)
    world.arrive()
    world.look()
    assert world.switch.stage is Stage.REPLACED


def test_no_room_for_the_new_model_is_a_reason_to_go_back_unless_there_was_none_before():
    blocked = ServiceState(phase=Phase.BLOCKED, reason=because("blocked.driver", driver="docker"))
    for state, stage in (
        (ServiceState(phase=Phase.READY), Stage.GOING_BACK),
        (blocked, Stage.LOADING),
    ):
        switch = begin(B, Seen(A, state), values={}, had={}, who="x", at=0, now=0, prepares=False)
        written = done(switch, Deed.SET_NEW, now=0)
        assert step(written, Seen(B, blocked), now=1).stage is stage


def test_a_document_that_never_comes_back_ends_the_switch():
    world = serving()
    world.order(B)
    world.act()
    world.document = {}
    world.now += COMES_BACK + 1
    world.look()
    assert world.switch.stage is Stage.REPLACED
    world.order(B)
    world.act()
    refused = replace(world.seen(), refused=True, why="It is wrong.")
    assert step(world.switch, refused, now=world.now).stage is Stage.REFUSED


def test_a_host_that_began_anew_does_not_keep_a_switch_waiting_for_its_old_clock():
    world = serving()
    world.order(B)
    world.act()
    world.document, world.now = {}, 1.0
    world.look()
    assert (world.switch.stage, world.switch.since) == (Stage.ORDERED, 1.0)
    world.now += COMES_BACK + 1
    world.look()
    assert world.switch.stage is Stage.REPLACED


def test_a_word_from_before_that_arrives_late_is_no_later_word():
    world = serving()
    world.order(B)
    world.settle(1)
    world.order(C)
    world.act()
    world.order(B)
    world.act()
    world.arrived = {"model": B}
    world.look()
    assert world.switch.stage is Stage.LOADING
    world.arrived = {"model": C}  # written before ours, and brought by the watch after it
    world.look()
    assert world.switch.stage is Stage.LOADING
    world.now += PASSES + 1
    world.look()
    assert world.switch.stage is Stage.REPLACED


def test_a_service_that_is_no_longer_defined_ends_its_switch():
    world = serving()
    world.order(B)
    assert step(world.switch, Seen(None, ServiceState()), now=world.now).stage is Stage.REPLACED


def test_every_stage_has_a_sentence():
    switch = Switch(B, A, "anna", 0.0, 0.0, fell="x")
    codes = {told(replace(switch, stage=stage)).code for stage in Stage}
    assert len(codes) == len(Stage)


WHATEVER = st.lists(
    st.one_of(
        st.tuples(st.just("order"), st.sampled_from([A, B, C, BAD, STUCK])),
        st.tuples(st.just("edit"), st.sampled_from([A, B, C])),
        st.sampled_from(
            [("toggle",), ("arrive",), ("killed",), ("look",), ("act",), ("reconcile",)]
        ),
        st.just(("act_and_die_before_noting_it",)),
        st.just(("pass_time",)),
        st.tuples(st.just("settle"), st.integers(1, 9)),
    ),
    max_size=30,
)


@given(what=WHATEVER, prepares=st.booleans())
def test_whatever_happens_there_is_one_model_and_an_end(what, prepares):
    world = serving()
    world.prepares = prepares
    for name, *args in what:
        getattr(world, name)(*args)
        assert len(world.runs) <= 1
    world.settle()
    assert world.switch is None or world.switch.stage.over
    assert set(world.document.values()) <= {A, B, C, BAD, STUCK}
    if world.switch is not None and world.switch.stage is Stage.DONE and not world.interfered:
        assert world.runs == [world.switch.model]
    if world.switch is not None and world.switch.stage in {Stage.BACK, Stage.DONE}:
        assert world.switch.worse or world.runs or world.interfered


@given(
    models=st.lists(st.sampled_from([B, C, BAD, STUCK]), min_size=1, max_size=4),
    between=st.lists(
        st.sampled_from(
            [
                "look",
                "act",
                "arrive",
                "reconcile",
                "pass_time",
                "killed",
                "act_and_die_before_noting_it",
            ]
        ),
        max_size=25,
    ),
)
def test_left_to_itself_it_serves_the_last_choice_or_what_served_before(models, between):
    world = serving()
    for model in models:
        world.order(model)
        for name in between:
            getattr(world, name)()
    world.settle()
    wanted = models[-1]
    assert world.switch is not None
    if wanted in {BAD, STUCK}:
        assert world.switch.stage is Stage.BACK
        assert world.runs == [world.switch.before]
    else:
        assert (world.switch.stage, world.runs) == (Stage.DONE, [wanted])
