"""Keeping Consul true, against a Consul agent in memory."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from lictor.core.errors import (
    BadRequest,
    ConsulTimeout,
    ConsulUnreachable,
    Forbidden,
    NoLeader,
    NotFound,
)
from lictor.core.model.known import Unknown
from lictor.core.model.reason import because
from lictor.core.model.registration import (
    OWNER_META,
    Deregister,
    Register,
    RegistryView,
    RemoveCheck,
    SeenService,
    SetStatus,
)
from lictor.core.model.state import Health
from lictor.core.planning.groups import GROUP_META, group_entry
from lictor.core.planning.registration import Owner, after, wanted
from lictor.core.runtime.registry.flaps import UPS
from lictor.core.runtime.registry.registrar import FULL_READ, Registrar
from lictor.core.testing import FakeRegistry
from tests.core.build import HTTP, now_in, want
from tests.core.virtual import virtual

OWNER = Owner("us", "host1")
ID = "lictor:host1:piper"
LOST = ConsulUnreachable("no connection")


def entry(name="piper", phase="ready", **state):
    wish = want(name, probe=HTTP, port=5000)
    return wanted(wish, now_in(phase, **state), OWNER, lambda reason: reason.code)


class Side:
    """A registrar and what it was told and has told."""

    def __init__(self, *entries) -> None:
        self.registry = FakeRegistry()
        self.entries = list(entries)
        self.health: list[tuple[str, bool, str]] = []
        self.states: list[str] = []
        self.events: list[tuple[str, str]] = []
        self.registrar = Registrar(
            self.registry,
            OWNER,
            entries=lambda: self.entries,
            on_health=lambda *told: self.health.append(told),
            on_state=lambda reason: self.states.append(reason.code),
            jitter=lambda: 1.0,
            on_event=lambda service_id, reason: self.events.append((service_id, reason.code)),
        )

    @contextlib.asynccontextmanager
    async def kept(self):
        """Both loops at work, a moment after their start."""
        tasks = [
            asyncio.create_task(self.registrar.keep_true()),
            asyncio.create_task(self.registrar.watch_health()),
        ]
        await asyncio.sleep(0.1)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def tell(self, *entries) -> list:
        """Change what should be there; give the writes that follow."""
        before = len(self.registry.writes)
        self.entries = list(entries)
        self.registrar.wake()
        await asyncio.sleep(0.1)
        return self.registry.writes[before:]


@virtual
async def test_nothing_is_written_while_nothing_differs():
    side = Side(entry())
    async with side.kept():
        assert len(side.registry.writes) == 2
        assert await side.tell(entry()) == []
        await asyncio.sleep(10 * FULL_READ)
        assert len(side.registry.writes) == 2
        assert side.states == ["consul.ok"]
        assert side.registrar.good


@virtual
async def test_an_exit_is_one_write_of_one_status():
    side = Side(entry())
    async with side.kept():
        reads = side.registry.reads
        (write,) = await side.tell(entry(phase="backoff"))
        assert write == SetStatus(f"{ID}:lictor", Health.CRITICAL, write.output)
        assert side.registry.reads == reads


@virtual
async def test_what_somebody_deleted_by_hand_is_back_after_a_full_read():
    side = Side(entry())
    async with side.kept():
        await side.registry.apply(Deregister(ID))
        await asyncio.sleep(FULL_READ + 1)
        assert side.registry.status(f"{ID}:lictor") == "passing"
        assert side.registrar.holds(ID) is True


@virtual
async def test_what_was_seen_stands_while_everything_is_read_anew():
    side = Side(entry())
    read = side.registry.read

    async def slowly():
        await asyncio.sleep(1.0)
        return await read()

    async with side.kept():
        side.registry.read = slowly
        reads = side.registry.reads
        held = []
        for _ in range(75):
            await asyncio.sleep(FULL_READ / 25)
            held.append(side.registrar.holds(ID))
        assert side.registry.reads >= reads + 2
        assert set(held) == {True}


@virtual
async def test_a_service_that_stopped_is_deregistered_and_a_foreign_one_is_not():
    side = Side(entry(), entry("redis"))
    side.registry.put_service(SeenService("x", "redis", "h", 1, (), {OWNER_META: "them"}))
    async with side.kept():
        assert await side.tell(entry()) == [Deregister("lictor:host1:redis")]
        assert set(side.registry.view.services) == {ID, "x"}


@virtual
async def test_a_foreign_entry_under_our_id_is_reported_and_left_alone():
    side = Side(entry())
    side.registry.put_service(SeenService(ID, "piper", "h", 1, (), {OWNER_META: "them"}))
    async with side.kept():
        assert side.registrar.conflicts == [ID]
        assert side.registry.writes == []


@virtual
async def test_when_consul_is_lost_it_says_so_and_makes_all_true_once_it_is_back():
    side = Side(entry())
    async with side.kept():
        side.registry.fail(LOST)
        await side.tell(entry(phase="backoff"))
        assert not side.registrar.good
        assert side.registrar.holds(ID) is None
        await asyncio.sleep(300)
        side.entries = [entry(), entry("redis")]
        side.registry.fail(None)
        await asyncio.sleep(11)
        assert side.registry.status("lictor:host1:redis:lictor") == "passing"
        assert side.states[0] == side.states[-1] == "consul.ok"
        assert set(side.states) == {"consul.ok", "consul.unreachable"}


@virtual
async def test_an_absent_consul_is_asked_ever_more_rarely():
    side = Side(entry())
    side.registry.fail(LOST)
    asked = 0
    side.registrar._on_state = lambda _: side.states.append("failed")
    async with side.kept():
        await asyncio.sleep(600)
        asked = len(side.states)
    assert 50 < asked < 75


@pytest.mark.parametrize("error", [Forbidden("no rights"), LOST])
@virtual
async def test_a_read_that_fails_deregisters_nothing(error):
    side = Side(entry())
    async with side.kept():
        side.entries = []
        side.registry.fail(error)
        await asyncio.sleep(5 * FULL_READ)
        side.registry.fail(None)
        side.entries = [entry()]
        await asyncio.sleep(FULL_READ + 1)
        assert not [w for w in side.registry.writes if isinstance(w, Deregister)]


@virtual
async def test_one_refused_write_does_not_keep_the_others_from_being_written():
    side = Side(entry("bad"), entry("good"))
    side.registry.refuse = lambda write: Forbidden("not this one") if "bad" in str(write) else None
    async with side.kept():
        assert side.registry.status("lictor:host1:good:lictor") == "passing"
        side.registry.refuse = lambda _: None
        await asyncio.sleep(11)
        assert side.registry.status("lictor:host1:bad:lictor") == "passing"


@virtual
async def test_an_entry_that_consul_finds_malformed_is_named_and_the_others_stay_known():
    side = Side(entry("bad"), entry("good"))
    side.registry.refuse = lambda write: BadRequest("no such port") if "bad" in str(write) else None
    async with side.kept():
        assert side.registry.status("lictor:host1:good:lictor") == "passing"
        assert side.registrar.good
        assert side.registrar.refused == {"lictor:host1:bad": "no such port"}
        side.registry.refuse = lambda _: None
        await asyncio.sleep(11)
        assert side.registrar.refused == {}
        assert side.registry.status("lictor:host1:bad:lictor") == "passing"


# --- what others do to our entries ----------------------------------------------------------------


@virtual
async def test_an_entry_that_somebody_took_out_is_back_at_once_and_counted():
    side = Side(entry())
    async with side.kept():
        await side.registry.apply(Deregister(ID))
        await asyncio.sleep(0.5)  # the health watch shows it
        assert side.registrar.holds(ID) is True
        assert side.registrar.flaps.count(ID) == 1
        assert side.events == [(ID, "registry.taken_out")]


@virtual
async def test_what_consul_lost_itself_was_taken_out_by_nobody():
    side = Side(entry())
    async with side.kept():
        side.registry.fail(LOST)
        await asyncio.sleep(1)
        side.registry.view = RegistryView()
        side.registry.fail(None)
        await asyncio.sleep(11)
        assert side.registrar.holds(ID) is True
        assert side.registrar.flaps.count(ID) == 0


@virtual
async def test_somebody_who_fights_for_an_entry_makes_it_come_up_only_so_often_a_minute():
    side = Side(entry())
    async with side.kept():
        before = len(side.registry.writes)
        for _ in range(250):
            if side.registrar.holds(ID):
                await side.registry.apply(Deregister(ID))
            await asyncio.sleep(0.2)
        ups = [w for w in side.registry.writes[before:] if isinstance(w, Register)]
        assert UPS - 1 <= len(ups) <= UPS + 1
        assert ID in side.registrar.flaps.damped(asyncio.get_running_loop().time())
        await asyncio.sleep(90)  # and when the other one has given up
        assert side.registry.status(f"{ID}:lictor") == "passing"
        assert side.registrar.flaps.damped(asyncio.get_running_loop().time()) == {}


@virtual
async def test_an_entry_that_is_taken_out_between_two_writes_says_nothing_about_consul():
    side, left = Side(entry(), entry("redis")), 5
    async with side.kept():

        def somebody_is_quick(write: object) -> None:
            nonlocal left
            if isinstance(write, SetStatus) and write.check_id == f"{ID}:lictor" and left:
                left -= 1
                side.registry.view = after(side.registry.view, Deregister(ID))

        side.registry.refuse = somebody_is_quick
        await side.registry.apply(Deregister(ID))
        await side.tell(entry(), entry("redis", phase="backoff"))
        assert left == 4
        assert side.registry.status("lictor:host1:redis:lictor") == "critical"  # it goes on
        await asyncio.sleep(30)
        assert side.registry.status(f"{ID}:lictor") == "passing"
        assert side.states == ["consul.ok"]
        assert side.registrar.flaps.count(ID) == 6
        assert [told for told in side.events if told[0] == ID] == [(ID, "registry.taken_out")] * 3


@virtual
async def test_a_consul_that_lists_a_check_and_does_not_know_it_is_asked_with_growing_pauses():
    side = Side(entry())
    unknown = NotFound("Consul has no such TTL check.")
    async with side.kept():
        before = side.registry.reads
        side.registry.refuse = lambda write: unknown if isinstance(write, SetStatus) else None
        await side.tell(entry(phase="backoff"))
        await asyncio.sleep(60)
        assert 5 <= side.registry.reads - before <= 12


@virtual
async def test_a_crash_is_told_at_once_however_often_and_only_its_end_is_damped():
    side = Side(entry())
    async with side.kept():
        for _ in range(2 * UPS):
            await side.tell(entry(phase="backoff"))
            assert side.registry.status(f"{ID}:lictor") == "critical"
            await side.tell(entry())
        passed = [w for w in side.registry.writes if getattr(w, "status", None) is Health.PASSING]
        assert len(passed) == UPS
        await asyncio.sleep(70)
        assert side.registry.status(f"{ID}:lictor") == "passing"


@virtual
async def test_an_entry_that_the_catalog_lacks_is_shown_and_pushed_again_once_a_minute():
    side = Side(entry(), entry("redis"))
    async with side.kept():
        before = len(side.registry.writes)
        side.registry.lose_in_catalog(ID)
        await asyncio.sleep(1)
        assert side.registrar.drifting == {}  # a catalog may be a moment behind
        await asyncio.sleep(10)
        assert side.registry.writes[before:] == [Register(entry().registration)]
        assert side.registrar.drifting == {}
        assert side.registrar.flaps.count(ID) == 0
        await asyncio.sleep(60)
        assert len(side.registry.writes) == before + 1


@virtual
async def test_a_members_entry_under_its_groups_name_is_missed_and_mended_like_any_other():
    wish = want("piper", probe=HTTP, port=5000, voice_group="voice")
    member = group_entry(wish, entry(), OWNER, standby=False)
    service_id = member.registration.service_id
    meta = {OWNER_META: "us", GROUP_META: "voice"}
    ghost = SeenService("lictor:host1:voice:old", "voice", "h", 1, (), meta)
    side = Side(entry(), member)
    async with side.kept():
        side.registry.lose_in_catalog(service_id)
        side.registry.put_ghost(ghost)
        await asyncio.sleep(2 * FULL_READ)
        assert (side.registry.lost_by_catalog, side.registry.ghosts) == (set(), {})
        assert (service_id, "registry.not_in_catalog") in side.events
        assert side.registrar.drifting == {}


@virtual
async def test_an_entry_that_the_agent_lost_too_is_not_said_to_be_missing_in_the_catalog_alone():
    side = Side(entry())
    async with side.kept():
        side.registry.lose_in_catalog(ID)
        await asyncio.sleep(1)
        # The watch already shows that it is gone, and has nothing new to tell.
        side.registry.view = after(side.registry.view, Deregister(ID))
        await asyncio.sleep(5)
        assert side.registrar.holds(ID) is True
        assert side.registrar.flaps.count(ID) == 1
        assert side.events == [(ID, "registry.taken_out")]


@virtual
async def test_an_entry_that_never_arrives_stays_shown_and_is_not_pushed_more_than_once_a_minute():
    side = Side(entry())
    side.registry.lost_by_catalog = Stubborn([ID])
    async with side.kept():
        before = len(side.registry.writes)
        await asyncio.sleep(300)
        assert side.registrar.drifting.keys() == {ID}
        assert 4 <= len(side.registry.writes) - before <= 6


class Stubborn(set):
    """A catalog that hears of nothing."""

    def discard(self, _):
        """It does not learn."""


@virtual
async def test_an_entry_of_ours_that_the_catalog_keeps_is_taken_out_and_a_strangers_is_not():
    side = Side(entry())
    ours = SeenService("lictor:host1:old", "old", "h", 1, (), {OWNER_META: "us"})
    theirs = SeenService("lictor:host1:odd", "odd", "h", 1, (), {OWNER_META: "them"})
    async with side.kept():
        side.registry.put_ghost(ours)
        side.registry.put_ghost(theirs)
        await asyncio.sleep(2 * FULL_READ)
        assert set(side.registry.ghosts) == {theirs.service_id}
        assert ours.service_id not in side.registry.view.services
        assert side.events == [(ours.service_id, "registry.ghost")]


# --- rights ----------------------------------------------------------------------------------------


@virtual
async def test_a_new_token_is_made_known_to_every_entry_of_ours_once():
    side = Side(entry(), entry("redis"))
    side.registry.token = "first"
    async with side.kept():
        before = len(side.registry.writes)
        side.registry.token = "second"
        await asyncio.sleep(FULL_READ + 1)
        assert side.registry.writes[before:] == [
            Register(entry().registration),
            Register(entry("redis").registration),
        ]
        await asyncio.sleep(5 * FULL_READ)
        assert len(side.registry.writes) == before + 2
        assert side.states == ["consul.ok"]


@virtual
async def test_a_token_without_a_rule_for_one_entry_leaves_the_others_and_consul_known():
    side = Side(entry("bad"), entry("good"))
    side.registry.refuse = lambda write: Forbidden("no rule") if "bad" in str(write) else None
    async with side.kept():
        await asyncio.sleep(60)
        assert side.registrar.good
        assert side.states == ["consul.ok"]
        assert side.registrar.forbidden == {"lictor:host1:bad"}
        side.entries = [entry("good")]
        await asyncio.sleep(FULL_READ + 1)
        assert side.registrar.forbidden == set()


@virtual
async def test_a_token_without_any_rule_for_us_is_told_once_as_what_it_is():
    side = Side(entry())
    side.registry.refuse = lambda _: Forbidden("no rule")
    async with side.kept():
        await asyncio.sleep(100)
        assert not side.registrar.good
        assert set(side.states) == {"consul.forbidden"}


@virtual
async def test_without_rights_it_tries_once_in_ten_seconds_whatever_happens_meanwhile():
    side = Side(entry())
    async with side.kept():
        side.registry.fail(Forbidden("revoked", unknown_token=True))
        await asyncio.sleep(1)
        tries = len(side.states)
        for _ in range(200):
            side.registrar.wake()
            await asyncio.sleep(0.5)
        assert 9 <= len(side.states) - tries <= 11


# --- becoming ready ------------------------------------------------------------------------------


@virtual
async def test_a_service_that_becomes_ready_gets_a_fresh_check():
    side = Side(entry(phase="starting"))
    async with side.kept():
        side.registry.put_check(f"{ID}:http", "critical", "refused")
        side.registrar.became_ready(ID)
        writes = await side.tell(entry())
        assert RemoveCheck(f"{ID}:http") in writes
        assert writes[-1] == Register(entry().registration)
        assert side.registry.status(f"{ID}:http") == "passing"


@virtual
async def test_a_service_that_becomes_ready_while_it_is_being_registered_gets_one_too():
    side = Side(entry(phase="starting"))

    def ready_meanwhile(write: object) -> None:
        if isinstance(write, Register) and side.entries != [entry()]:
            side.entries = [entry()]
            side.registrar.became_ready(ID)

    side.registry.refuse = ready_meanwhile
    async with side.kept():
        assert side.registry.status(f"{ID}:http") == "passing"


@virtual
async def test_a_check_that_passes_already_is_left_alone():
    side = Side(entry(phase="starting"))
    async with side.kept():
        side.registry.put_check(f"{ID}:http", "passing", "200")
        side.registrar.became_ready(ID)
        (write,) = await side.tell(entry())
        assert isinstance(write, SetStatus)


@virtual
async def test_the_verdict_from_the_time_of_loading_is_never_told_of_a_ready_service():
    side = Side(entry(phase="starting"))
    async with side.kept():
        side.registry.put_check(f"{ID}:http", "critical", "refused")
        await asyncio.sleep(0.1)
        side.health.clear()
        side.registrar.became_ready(ID)
        await side.tell(entry())
        # The catalog comes later than the agent: here it still brings the old verdict.
        side.registry.put_check(f"{ID}:http", "critical", "refused")
        await asyncio.sleep(0.1)
        side.registry.put_check(f"{ID}:http", "passing", "200")
        await asyncio.sleep(10)
        assert {passed for _, passed, _ in side.health} == {True}


@virtual
async def test_a_failure_right_after_becoming_ready_is_told_a_moment_later():
    side = Side(entry(phase="starting"))
    async with side.kept():
        side.registrar.became_ready(ID)
        await side.tell(entry())
        side.registry.put_check(f"{ID}:http", "critical", "503")
        await asyncio.sleep(0.5)
        assert (ID, False, "503") not in side.health
        await asyncio.sleep(2)
        assert side.health[-1] == (ID, False, "503")


# --- what Consul's checks say ---------------------------------------------------------------------


@virtual
async def test_verdicts_of_consul_are_told_for_our_services_only():
    side = Side(entry())
    async with side.kept():
        for check in ("serfHealth", f"{ID}:lictor", "lictor:host2:piper:http", "x:http"):
            side.registry.put_check(check, "critical", "no")
        side.registry.put_check(f"{ID}:http", "warning", "429")
        await asyncio.sleep(0.1)
        assert {told[0] for told in side.health} == {ID}
        assert side.health[-1] == (ID, True, "429")


@virtual
async def test_consul_watches_a_service_only_while_its_own_check_is_known():
    plain = wanted(want("plain"), now_in("ready"), OWNER, lambda reason: reason.code)
    side = Side(entry(), entry("tts@a"), plain)
    assert not side.registrar.watches(ID)
    async with side.kept():
        assert side.registrar.watches(ID)
        assert side.registrar.watches("lictor:host1:tts:a")
        # A check of an instance says nothing about a service whose name only begins like it.
        assert not side.registrar.watches("lictor:host1:tts")
        assert not side.registrar.watches("lictor:host1:plain")
        side.registry.fail(LOST)
        await asyncio.sleep(0.1)
        assert not side.registrar.watches(ID)


@virtual
async def test_a_dead_leader_that_is_named_for_a_while_is_noticed_all_the_same():
    """The local agent answers on; only its watch breaks, a moment before it forgets its leader."""

    class Headless(FakeRegistry):
        broken = leaderless = False

        async def ready(self):
            await super().ready()
            if self.leaderless:
                raise NoLeader("none")

        async def read(self):
            self.reads += 1
            return self.view

        def _verdicts(self):
            return Unknown(because("consul.error")) if self.broken else super()._verdicts()

    side = Side(entry())
    side.registry = side.registrar._registry = Headless()
    async with side.kept():
        side.registry.broken = True
        side.registry._ring()
        await asyncio.sleep(1.0)
        assert side.registrar.good
        side.registry.leaderless = True
        await asyncio.sleep(FULL_READ)
        assert not side.registrar.good
        assert side.states[-1] == "consul.no_leader"


@virtual
async def test_a_consul_that_answers_no_call_watches_nobody_whatever_its_watch_said_last():
    class Mute(FakeRegistry):
        answers = True

        async def ready(self):
            await super().ready()
            if not self.answers:  # and the watch waits on
                raise ConsulTimeout("no answer")

    side = Side(entry())
    side.registry = side.registrar._registry = Mute()
    async with side.kept():
        assert side.registrar.watches(ID)
        side.registry.answers = False
        await asyncio.sleep(FULL_READ)
        assert not side.registrar.watches(ID)
        # What it thought before it fell mute is no news of a service that is probed here.
        side.health.clear()
        side.registry.put_check(f"{ID}:http", "passing", "of old")
        await asyncio.sleep(0.001)
        assert side.health == []
        side.registry.answers = True
        await asyncio.sleep(FULL_READ)
        assert side.registrar.watches(ID)
        assert side.health[-1] == (ID, True, "of old")


# --- the end --------------------------------------------------------------------------------------


@virtual
async def test_at_the_end_everything_of_ours_is_withdrawn_and_nothing_else():
    side = Side(entry(), entry("redis"))
    side.registry.put_service(SeenService("x", "redis", "h", 1, (), {OWNER_META: "them"}))
    side.registry.put_service(SeenService("y", "redis", "h", 1))
    await side.registrar.sync()
    await side.registrar.withdraw()
    assert set(side.registry.view.services) == {"x", "y"}


@virtual
async def test_one_entry_can_be_withdrawn_if_it_is_ours():
    side = Side(entry(), entry("redis"))
    side.registry.put_service(SeenService("x", "redis", "h", 1, (), {OWNER_META: "them"}))
    await side.registrar.sync()
    for service_id in (ID, "x", "not-there"):
        await side.registrar.withdraw_one(service_id)
    assert set(side.registry.view.services) == {"lictor:host1:redis", "x"}


@virtual
async def test_who_goes_is_given_out_until_the_catalog_says_that_it_does_not_work():
    side = Side(entry())
    async with side.kept():
        side.registrar.became_ready(ID)
        await asyncio.sleep(0.1)
        assert side.registrar.gives_out(ID)
        assert not side.registrar.gives_out("lictor:host1:other")
        rings = side.registrar.heard.rings
        side.entries = [entry(phase="stopping")]
        assert side.registrar.gives_out(ID)  # it was decided, and nobody was told
        side.registrar.wake()
        assert await side.registrar.heard.wait(1.0)
        assert side.registrar.heard.rings > rings
        assert not side.registrar.gives_out(ID)


@virtual
async def test_nobody_waits_for_a_catalog_that_cannot_be_told():
    side = Side(entry())
    async with side.kept():
        side.registrar.became_ready(ID)
        await asyncio.sleep(0.1)
        assert side.registrar.gives_out(ID)
        side.registry.fail(LOST)
        assert await side.registrar.heard.wait(1.0)
        assert not side.registrar.gives_out(ID)
