"""Documents in force: from KV while it answers, from disk while it does not."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import asdict

import pytest

from lictor.core.errors import ConsulUnreachable, Forbidden
from lictor.core.model.desired import DesiredChange, DesiredState, Override
from lictor.core.model.reason import because
from lictor.core.model.spec import ParamSpec
from lictor.core.planning.overrides import Host as Ability
from lictor.core.planning.overrides import merge
from lictor.core.runtime.desired.keeper import DesiredKeeper, apply_change, merge_changes
from lictor.core.runtime.storage.codec import override_row
from lictor.core.testing import FakeDesired, MemoryStore
from tests.core.build import key, spec
from tests.core.virtual import virtual

LOST = ConsulUnreachable("no connection")
STOP = DesiredChange(state="stopped", by="anna")
START = DesiredChange(state="running", by="anna")
SERVICES = ("piper", "redis", "vosk", "xtts", "whisper")
PARAMS = {"voice": ParamSpec("a")}


class Host:
    """A keeper, the KV it follows, and what it told."""

    def __init__(self, store=None, kv=None) -> None:
        self.store = store or MemoryStore()
        self.kv = kv or FakeDesired(lambda _: PARAMS)
        self.events: list[tuple[str, str]] = []
        self.states: list[str | None] = []  # of piper, with each change
        self.keeper = DesiredKeeper(
            self.store,
            lambda: self.states.append(self.state()),
            lambda who, reason: self.events.append((who, reason.code)),
            self.merged,
        )
        self.keeper.load()

    @staticmethod
    def merged(documents):
        """This host has five services, to be started by hand."""
        specs = [spec(name, activation="manual") for name in SERVICES]
        return merge(specs, documents, wall=0.0, host=Ability())

    @contextlib.asynccontextmanager
    async def following(self):
        task = asyncio.create_task(self.keeper.follow(self.kv))
        await asyncio.sleep(0.01)
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.wait([task])

    def state(self, name="piper") -> str | None:
        """What the documents in force of this node say."""
        found = self.keeper.documents.node.get(key(name))
        return found.state.value if found is not None and found.state is not None else None

    async def order(self, change, name="piper") -> bool:
        written = await self.keeper.change(key(name), change)
        await asyncio.sleep(0.01)
        return written


async def away(host: Host) -> None:
    host.kv.fail(LOST)
    await asyncio.sleep(0.01)


async def back(host: Host) -> None:
    host.kv.fail(None)
    await asyncio.sleep(0.01)


@virtual
async def test_what_kv_says_is_in_force_at_once():
    async with Host().following() as host:
        assert host.keeper.unknown is None
        host.kv.put("piper", {"state": "stopped"})
        await asyncio.sleep(0.01)
        assert host.state() == "stopped"
        host.kv.put("piper", None)
        await asyncio.sleep(0.01)
        assert host.state() is None


@virtual
async def test_an_order_is_written_to_kv_and_takes_effect_from_there():
    async with Host().following() as host:
        assert await host.order(STOP)
        assert host.state() == "stopped"
        assert host.keeper.pending == ()


@virtual
async def test_a_document_that_is_refused_leaves_the_last_good_one_and_is_told_once():
    async with Host().following() as host:
        host.kv.put("piper", {"state": "stopped"})
        await asyncio.sleep(0.01)
        for text in ("{", "{"):
            host.kv.put("piper", text)
            await asyncio.sleep(0.01)
        assert host.state() == "stopped"
        assert host.events == [("piper", "kv.bad_json")]


@virtual
async def test_an_unreadable_kv_changes_nothing_and_is_told_once():
    async with Host().following() as host:
        host.kv.put("piper", {"state": "stopped"})
        await asyncio.sleep(0.01)
        host.kv.hide()
        host.kv.put("piper", None)
        await asyncio.sleep(0.01)
        assert host.state() == "stopped"
        assert host.keeper.unknown.code == "desired.sentinel_missing"
        assert host.events == [("desired", "desired.sentinel_missing")]
        await host.kv.confirm()
        await asyncio.sleep(0.01)
        assert (host.keeper.unknown, host.state()) == (None, None)


# --- while Consul is away -------------------------------------------------------------------------


@virtual
async def test_an_order_given_while_consul_is_away_takes_effect_and_is_pushed_on_its_return():
    async with Host().following() as host:
        await away(host)
        assert not await host.order(STOP)
        assert host.state() == "stopped"
        assert host.keeper.pending == (key("piper"),)
        await back(host)
        assert host.kv.text("piper") == '{"by": "anna", "state": "stopped"}'
        assert (host.keeper.pending, host.state()) == ((), "stopped")
        assert ("piper", "pending.written") in host.events


@virtual
async def test_an_order_for_a_document_that_is_refused_is_in_force_while_consul_is_away():
    async with Host().following() as host:
        host.kv.put("piper", {"params": {"voice": "b"}})
        await asyncio.sleep(0.01)
        host.kv.put("piper", "not JSON")
        await asyncio.sleep(0.01)
        await away(host)
        assert key("piper") in host.keeper.documents.refused
        await host.order(STOP)
        assert host.keeper.documents.refused == {}
        before = host.keeper.documents.node
        await back(host)
        assert (host.keeper.pending, host.keeper.documents.refused) == ((), {})
        assert host.keeper.documents.node == before  # not a word is lost on the way


@virtual
async def test_what_waits_for_consul_is_not_what_consul_has():
    async with Host().following() as host:
        host.kv.put("piper", "not JSON")
        await asyncio.sleep(0.01)
        was = host.keeper.entry(key("piper"))
        assert was.refused.code == "kv.bad_json"
        await away(host)
        await host.order(STOP)
        assert host.keeper.entry(key("piper")) == was
        await back(host)
        assert host.keeper.entry(key("piper")).refused is None


@virtual
async def test_an_order_that_is_taken_back_before_consul_was_read_again_is_in_force_no_more():
    async with Host().following() as host:
        await away(host)
        await host.order(DesiredChange(params={"voice": "b"}, by="anna"))
        await host.order(STOP, "redis")
        write = host.kv.change

        async def slow_for_redis(which, change, **told):
            if which == key("redis"):
                await asyncio.sleep(1)
            await write(which, change, **told)

        host.kv.change = slow_for_redis
        await back(host)
        assert host.keeper.pending == (key("redis"),)
        assert host.kv.text("piper") is not None
        assert await host.order(DesiredChange(unset_params=("voice",), by="anna"))
        await asyncio.sleep(2)
        # The document is absent as it was in the read before: nothing else tells the two apart.
        assert host.kv.text("piper") is None
        assert key("piper") not in host.keeper.documents.node
        assert host.state("redis") == "stopped"


@virtual
async def test_an_order_is_overtaken_by_whoever_changed_the_key_meanwhile():
    async with Host().following() as host:
        await away(host)
        await host.order(STOP)
        host.kv.put("piper", {"state": "maintenance"})
        await back(host)
        assert (host.state(), host.keeper.pending) == ("maintenance", ())
        assert ("piper", "pending.overtaken") in host.events


@virtual
async def test_several_orders_become_one_document():
    async with Host().following() as host:
        await away(host)
        for change in (
            DesiredChange(params={"voice": "b"}, by="anna"),
            STOP,
            DesiredChange(state="running", by="bert"),
        ):
            await host.order(change)
        await back(host)
        assert len(host.kv.changes) == 1
        document = host.keeper.documents.node[key("piper")]
        assert (document.state, document.by) == (DesiredState.RUNNING, "bert")
        assert document.params == {"voice": "b"}


@virtual
async def test_a_document_that_was_removed_and_made_anew_has_nothing_of_the_old_one():
    async with Host().following() as host:
        host.kv.put("piper", {"state": "stopped", "params": {"voice": "b"}})
        await asyncio.sleep(0.01)
        await away(host)
        await host.order(DesiredChange(remove=True))
        await host.order(START)
        assert host.keeper.documents.node[key("piper")].params == {}
        await back(host)
        assert host.kv.text("piper") == '{"by": "anna", "state": "running"}'


@virtual
async def test_orders_and_documents_outlive_the_agent():
    async with Host().following() as host:
        host.kv.put("redis", {"state": "stopped"})
        await asyncio.sleep(0.01)
        await away(host)
        await host.order(STOP)
    nextone = Host(MemoryStore(host.store), host.kv)
    assert (nextone.state(), nextone.state("redis")) == ("stopped", "stopped")
    assert nextone.keeper.unknown.code == "desired.not_read_yet"
    assert nextone.keeper.memory is not None
    async with nextone.following():
        await back(nextone)
        assert nextone.kv.text("piper") == '{"by": "anna", "state": "stopped"}'
    third = Host(MemoryStore(nextone.store), host.kv)
    assert third.keeper.pending == ()


@virtual
async def test_an_order_to_an_agent_that_never_met_consul_is_based_on_what_the_one_before_read():
    async with Host().following() as host:
        host.kv.put("piper", {"state": "stopped"})
        await asyncio.sleep(0.01)
        await away(host)
    nextone = Host(MemoryStore(host.store), host.kv)
    assert not await nextone.order(START)
    async with nextone.following():
        await back(nextone)
        assert nextone.state() == "running"
        assert ("piper", "pending.overtaken") not in nextone.events


@virtual
async def test_an_order_that_changes_nothing_does_not_hide_what_others_changed():
    async with Host().following() as host:
        host.kv.put("piper", {"state": "stopped", "by": "anna"})
        await asyncio.sleep(0.01)
        await away(host)
        await host.order(STOP)
        host.kv.put("redis", {"state": "stopped"})
        await back(host)
        assert (host.state(), host.state("redis")) == ("stopped", "stopped")


@virtual
async def test_an_order_that_consul_refuses_though_it_can_be_read_is_tried_again():
    class ReadOnly(FakeDesired):
        closed = True

        async def change(self, key, change, *, node=None, within=0):
            if self.closed:
                raise Forbidden("no rights to write")
            await super().change(key, change, node=node)

    async with Host(kv=ReadOnly(lambda _: PARAMS)).following() as host:
        assert not await host.order(STOP)
        assert host.state() == "stopped"
        host.kv.put("redis", {"state": "stopped"})
        await asyncio.sleep(5)
        assert (host.state(), host.state("redis")) == ("stopped", "stopped")
        assert host.keeper.pending == (key("piper"),)
        host.kv.closed = False
        await asyncio.sleep(11)
        assert (host.keeper.pending, host.state()) == ((), "stopped")
        assert host.kv.text("piper") is not None


@virtual
async def test_two_orders_for_one_service_that_a_mute_consul_did_not_take_are_both_pushed():
    class Mute(FakeDesired):
        silent = True

        async def change(self, key, change, *, node=None, within=0):
            async with asyncio.timeout(within or None):
                await asyncio.sleep(60 if self.silent else 0)
            await super().change(key, change, node=node)

    async with Host(kv=Mute(lambda _: PARAMS)).following() as host:
        voice = DesiredChange(params={"voice": "b"}, by="bert")
        assert await asyncio.gather(host.order(STOP), host.order(voice)) == [False, False]
        host.kv.silent = False
        await asyncio.sleep(5)
        assert host.keeper.pending == ()
        document = host.keeper.documents.node[key("piper")]
        assert (document.state, document.params) == (DesiredState.STOPPED, {"voice": "b"})


@virtual
async def test_a_consul_that_answers_each_try_is_not_mute_however_long_they_take_together():
    class Contended(FakeDesired):
        """Others are faster, four times."""

        async def change(self, key, change, *, node=None, within=0):
            for _ in range(5):
                async with asyncio.timeout(within or None):
                    await asyncio.sleep(1)
            await super().change(key, change, node=node)

    async with Host(kv=Contended(lambda _: PARAMS)).following() as host:
        assert await host.order(STOP)
        assert (host.keeper.pending, host.state()) == ((), "stopped")


@virtual
async def test_a_snapshot_from_before_a_pushed_order_does_not_undo_it():
    class Slow(FakeDesired):
        takes = 60.0

        async def change(self, key, change, *, node=None, within=0):
            async with asyncio.timeout(within or None):
                await asyncio.sleep(self.takes)
            await super().change(key, change, node=node)

    async with Host(kv=Slow(lambda _: PARAMS)).following() as host:
        assert not await host.order(STOP)
        host.kv.takes = 1.0
        await asyncio.sleep(1.5)  # tried again every two seconds: it is being written
        host.kv.put("redis", {"state": "stopped"})  # read before that is done
        host.states.clear()
        await asyncio.sleep(2)
        assert (host.keeper.pending, host.state("redis")) == ((), "stopped")
        assert host.kv.text("piper") is not None
        assert {*host.states} == {"stopped"}
        host.kv.put("piper", None)  # and whoever takes it back afterwards is heard
        await asyncio.sleep(0.01)
        assert host.state() is None


@virtual
async def test_what_was_written_of_two_changes_does_not_overtake_the_rest():
    class Second(FakeDesired):
        """Loses the connection once, after the removal."""

        lost = False

        async def change(self, key, change, *, node=None, within=0):
            if not change.remove and not self.lost:
                self.lost = True
                raise LOST
            await super().change(key, change, node=node)

    async with Host(kv=Second(lambda _: PARAMS)).following() as host:
        host.kv.put("piper", {"state": "stopped", "params": {"voice": "b"}})
        await asyncio.sleep(0.01)
        await away(host)
        await host.order(DesiredChange(remove=True))
        await host.order(START)
        await back(host)
        await asyncio.sleep(5)
        assert host.kv.lost
        assert (host.keeper.pending, host.state()) == ((), "running")
        assert ("piper", "pending.overtaken") not in host.events


@virtual
async def test_a_reload_judges_the_documents_anew():
    params: dict[str, ParamSpec] = {}
    async with Host(kv=FakeDesired(lambda _: params)).following() as host:
        host.kv.put("piper", {"params": {"voice": "b"}})
        await asyncio.sleep(0.01)
        assert host.keeper.documents.refused[key("piper")].code == "kv.unknown_param"
        params["voice"] = ParamSpec("a")
        host.keeper.reconsider()
        assert host.keeper.documents.refused == {}
        assert host.keeper.documents.node[key("piper")].params == {"voice": "b"}


def test_rows_of_another_version_are_passed_over():
    store = MemoryStore()
    store.save("pending", "piper", {"change": {"state": "stopped"}, "base": None})
    store.save("pending", "redis", {"changes": [{"colour": "red"}], "base": None})
    store.save("documents", "node/piper", {"state": "asleep"})
    host = Host(store)
    assert (host.keeper.pending, host.state()) == ((), None)


def test_rows_about_nothing_that_could_be_a_service_are_passed_over():
    store = MemoryStore()
    for name in ("no name!", "", "redis"):
        store.save("documents", f"node/{name}", override_row(Override(state=DesiredState.STOPPED)))
        store.save("pending", name, {"changes": [asdict(STOP)], "base": None})
    host = Host(store)
    assert (host.keeper.pending, host.state("redis")) == ((key("redis"),), "stopped")
    assert list(host.keeper.documents.node) == [key("redis")]


# --- edits ----------------------------------------------------------------------------------------


def test_a_change_without_anything_asked_for_leaves_no_document():
    assert apply_change(None, DesiredChange(by="anna")) is None
    stopped = apply_change(None, STOP)
    assert apply_change(stopped, DesiredChange(clear_state=True, by="bert")) is None


@pytest.mark.parametrize("first", [STOP, DesiredChange(remove=True)])
def test_a_removal_needs_nothing_that_came_before_it(first):
    removal = DesiredChange(remove=True)
    assert merge_changes((first,), removal) == (removal,)


def test_a_reason_is_that_of_the_last_edit():
    one = apply_change(None, DesiredChange(state="stopped", by="anna", reason="noise"))
    two = apply_change(one, DesiredChange(params={"voice": "b"}, by="bert"))
    assert (two.by, two.reason) == ("bert", "")
    assert because("x") == because("x")


# --- what is only inferred from absence ------------------------------------------------------------


async def delete(host: Host, *names: str) -> None:
    """As `consul kv delete -recurse` does: all in one moment."""
    for name in names:
        host.kv.put(name, None)
    await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def all_started():
    host = Host()
    for name in SERVICES:
        host.kv.put(name, {"state": "running"})
    async with host.following():
        yield host


def running(host: Host) -> set[str]:
    wants = host.merged(host.keeper.documents)
    return {str(name) for name, want in wants.items() if want.state is DesiredState.RUNNING}


@virtual
async def test_deleted_documents_that_would_stop_most_services_are_held_and_told_once():
    async with all_started() as host:
        await delete(host, "piper", "redis", "vosk")
        assert running(host) == set(SERVICES)
        assert {str(k) for k in host.keeper.held.services} == {"piper", "redis", "vosk"}
        await delete(host, "xtts")
        assert running(host) == set(SERVICES)
        assert [code for _, code in host.events if code == "desired.held"] == ["desired.held"]


@virtual
async def test_two_deleted_documents_are_believed_and_so_are_few_of_many():
    async with all_started() as host:
        await delete(host, "piper", "redis")
        assert running(host) == {"vosk", "xtts", "whisper"}
        assert host.keeper.held is None


@virtual
async def test_what_is_written_stops_as_many_as_it_says():
    async with all_started() as host:
        for name in SERVICES:
            host.kv.put(name, {"state": "stopped"})
        await asyncio.sleep(0.01)
        assert running(host) == set()


@virtual
async def test_confirming_lets_the_held_change_take_effect_and_the_next_one_is_held_again():
    async with all_started() as host:
        await delete(host, "piper", "redis", "vosk")
        assert host.keeper.confirm()
        assert running(host) == {"xtts", "whisper"}
        assert host.keeper.held is None
        for name in SERVICES:
            host.kv.put(name, {"state": "running"})
        await asyncio.sleep(0.01)
        await delete(host, *SERVICES)
        assert running(host) == set(SERVICES)


@virtual
async def test_documents_that_come_back_one_by_one_end_the_hold_when_the_last_is_there():
    async with all_started() as host:
        await delete(host, *SERVICES)
        for name in SERVICES:
            assert host.keeper.held is not None
            host.kv.put(name, {"state": "running"})
            await asyncio.sleep(0.01)
            assert running(host) == set(SERVICES)  # also while only two are still gone
        assert host.keeper.held is None
        await delete(host, *SERVICES[:2])
        assert running(host) == set(SERVICES[2:])


@virtual
async def test_a_hold_outlives_the_agent():
    async with all_started() as host:
        await delete(host, *SERVICES)
    again = Host(host.store, host.kv)
    async with again.following():
        assert running(again) == set(SERVICES)
        assert again.keeper.held is not None
        assert again.keeper.confirm()
        assert running(again) == set()


@virtual
async def test_one_confirmation_is_enough_for_a_folder_that_was_deleted_whole():
    async with all_started() as host:
        host.kv.hide()
        await delete(host, *SERVICES)
        assert running(host) == set(SERVICES)
        assert not host.keeper.confirm()
        await host.kv.confirm()
        await asyncio.sleep(0.01)
        assert running(host) == set()
