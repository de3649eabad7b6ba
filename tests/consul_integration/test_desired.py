"""Desired state in KV against a real Consul: good reads, losses, deletions, missing rights."""

import asyncio
import json
from contextlib import aclosing

import pytest

from lictor.consul_integration.desired import KvDesired
from lictor.consul_integration.memory import Remembered
from lictor.consul_integration.watch import Pace
from lictor.core.errors import BadRequest, Conflict
from lictor.core.model.desired import DesiredState
from lictor.core.model.known import Known, Unknown
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ParamSpec
from lictor.core.ports import DesiredChange
from tests.support.patience import next_of, soon, until

pytestmark = pytest.mark.consul

PIPER = ServiceKey("piper")
VLLM = ServiceKey("vllm")
DEFINED = {PIPER: {"speed": ParamSpec(1.0)}, VLLM: {}}
STOPPED = '{"state": "stopped"}'


@pytest.fixture
def desired(client, unique, pace):
    return KvDesired(client, "host1", prefix=unique, params_of=DEFINED.get, pace=pace)


def again(desired: KvDesired, **fields) -> KvDesired:
    """What the next agent of this node would be, with what the last one wrote down."""
    record = json.loads(json.dumps(desired.remembered.as_record()))
    given = {
        "prefix": desired._base.split("/")[0],
        "params_of": DEFINED.get,
        "remembered": Remembered.from_record(record),
        "pace": desired._pace,
    }
    return KvDesired(fields.pop("client", desired._client), "host1", **{**given, **fields})


async def first(desired: KvDesired):
    async with aclosing(desired.watch()) as changes:
        return await next_of(changes)


async def good(changes):
    """The next good read; what may be said before it (no leader yet, ...) is passed over."""
    while True:
        found = await next_of(changes, seconds=30)
        if isinstance(found, Known):
            return found.value


async def test_the_first_contact_makes_the_sentinels_and_keeps_what_was_there(
    desired, consul, unique
):
    consul.put_kv(f"{unique}/desired/_all/piper", STOPPED)
    found = await first(desired)
    assert found.value.all_nodes[PIPER].override.state is DesiredState.STOPPED
    assert consul.get_kv(f"{unique}/desired/host1/_lictor")
    assert consul.get_kv(f"{unique}/desired/_all/_lictor")


async def test_a_second_node_leaves_the_sentinel_of_all_nodes_alone(
    desired, client, consul, unique
):
    await first(desired)
    sentinel = consul.get_kv(f"{unique}/desired/_all/_lictor")
    await first(KvDesired(client, "host2", prefix=unique, params_of=DEFINED.get))
    assert consul.get_kv(f"{unique}/desired/_all/_lictor") == sentinel
    assert consul.get_kv(f"{unique}/desired/host2/_lictor")


async def test_a_change_by_hand_arrives_and_other_nodes_keys_are_no_news(desired, consul, unique):
    async with aclosing(desired.watch()) as changes:
        await good(changes)
        waiting = asyncio.create_task(anext(changes))
        consul.put_kv(f"{unique}/desired/host2/piper", STOPPED)
        consul.put_kv(f"{unique}/elsewhere", "x")
        await asyncio.sleep(0.4)
        assert not waiting.done()
        consul.put_kv(f"{unique}/desired/host1/piper", '{"params": {"speed": 1.5}}')
        found = await soon(waiting, seconds=5)
        assert found.value.node[PIPER].override.params == {"speed": 1.5}
        consul.put_kv(f"{unique}/desired/host1/piper", '{"params": {"speed": "fast"}}')
        refused = (await good(changes)).node[PIPER]
        assert refused.refused.code == "kv.bad_param_type"
        assert refused.override.params == {"speed": 1.5}
        consul.raw("DELETE", f"kv/{unique}/desired/host1/piper")
        assert PIPER not in (await good(changes)).node


@pytest.mark.parametrize(
    "slip",
    [
        '{"params": {"spede": 2}}',
        '{"state": "stopped", "until": "tomorrow"}',
        '{"state": "stopped", "restart": 5}',
        '{"params": {"speed": 2.0},}',
    ],
)
async def test_a_verb_after_a_slip_of_a_hand_changes_what_is_in_force(
    desired, consul, unique, slip
):
    key = f"{unique}/desired/host1/piper"
    async with aclosing(desired.watch()) as changes:
        await good(changes)
        consul.put_kv(key, slip)
        assert (await good(changes)).node[PIPER].refused is not None
        await desired.change(PIPER, DesiredChange(state="running"))
        assert consul.get_kv(key) == '{"state": "running"}'
        consul.put_kv(key, '{"params": {"speed": 1.5}, "state": "maintenance"}')
        while (await good(changes)).node[PIPER].override.params != {"speed": 1.5}:
            pass
        consul.put_kv(key, slip)
        assert (await good(changes)).node[PIPER].refused is not None
        await desired.change(PIPER, DesiredChange(state="stopped"))
        assert json.loads(consul.get_kv(key)) == {"params": {"speed": 1.5}, "state": "stopped"}


async def test_a_verb_and_a_hand_edit_the_same_document(desired, consul, unique):
    key = f"{unique}/desired/host1/piper"
    await desired.change(PIPER, DesiredChange(state="stopped", by="anna", reason="память"))
    assert consul.get_kv(key) == '{"by": "anna", "reason": "память", "state": "stopped"}'
    await desired.change(PIPER, DesiredChange(params={"speed": 2.0}))
    assert json.loads(consul.get_kv(key))["state"] == "stopped"
    await desired.change(PIPER, DesiredChange(state="running"), node="_all")
    assert consul.get_kv(f"{unique}/desired/_all/piper") == '{"state": "running"}'
    await desired.change(PIPER, DesiredChange(remove=True))
    assert consul.get_kv(key) is None
    await desired.change(PIPER, DesiredChange(remove=True))
    with pytest.raises(BadRequest):
        await desired.change(PIPER, DesiredChange(state="running"), node="../x")


async def test_a_change_that_changes_nothing_writes_nothing(desired, consul, unique):
    await desired.change(PIPER, DesiredChange(state="stopped"))
    index = consul.raw("GET", f"kv/{unique}/desired/host1/piper").index
    await desired.change(PIPER, DesiredChange(state="stopped"))
    assert consul.raw("GET", f"kv/{unique}/desired/host1/piper").index == index


@pytest.mark.checklist(
    35,
    "one document",
    "edited by five at once",
    "compare-and-set: no update is lost",
)
async def test_edits_of_many_at_once_lose_nothing(client, consul, unique):
    ends = [KvDesired(client, "host1", prefix=unique, params_of=DEFINED.get) for _ in range(5)]
    await asyncio.gather(
        *(end.change(PIPER, DesiredChange(params={f"p{n}": n})) for n, end in enumerate(ends))
    )
    document = json.loads(consul.get_kv(f"{unique}/desired/host1/piper"))
    assert document["params"] == {f"p{n}": n for n in range(5)}


async def test_an_edit_that_always_loses_is_a_conflict(desired, client, consul, unique):
    path = f"{unique}/desired/host1/piper"
    consul.put_kv(path, STOPPED)
    read, turn = client.kv_get, iter(range(1000))

    async def read_and_be_overtaken(key):
        item = await read(key)
        consul.put_kv(path, json.dumps({"state": "stopped", "by": str(next(turn))}))
        return item

    client.kv_get = read_and_be_overtaken
    with pytest.raises(Conflict):
        await desired.change(PIPER, DesiredChange(state="running"))
    assert json.loads(consul.get_kv(path))["state"] == "stopped"


async def test_a_prefix_deleted_by_an_operator_is_unknown_until_confirmed(desired, consul, unique):
    consul.put_kv(f"{unique}/desired/host1/piper", STOPPED)
    async with aclosing(desired.watch()) as changes:
        assert PIPER in (await good(changes)).node
        consul.raw("DELETE", f"kv/{unique}/desired/?recurse")
        unknown = await next_of(changes)
        assert unknown.reason.code == "desired.sentinel_missing"
        waiting = asyncio.create_task(anext(changes))
        consul.put_kv("noise/anything", unique)
        await asyncio.sleep(0.4)
        assert not waiting.done()
        assert consul.get_kv(f"{unique}/desired/host1/piper") is None
        await desired.confirm()
        found = await soon(waiting, seconds=10)
        assert isinstance(found, Known)
        assert found.value.node == {}


async def test_the_next_agent_does_not_take_a_deleted_prefix_for_an_order(desired, consul, unique):
    consul.put_kv(f"{unique}/desired/host1/piper", STOPPED)
    await first(desired)
    consul.raw("DELETE", f"kv/{unique}?recurse")
    found = await first(again(desired))
    assert isinstance(found, Unknown)
    assert found.reason.code == "desired.sentinel_missing"
    assert consul.get_kv(f"{unique}/desired/host1/_lictor") is None


async def test_a_deletion_while_the_agent_was_away_counts_if_the_sentinels_are_there(
    desired, consul, unique
):
    consul.put_kv(f"{unique}/desired/host1/piper", STOPPED)
    await first(desired)
    consul.raw("DELETE", f"kv/{unique}/desired/host1/piper")
    found = await first(again(desired))
    assert isinstance(found, Known)
    assert found.value.node == {}


async def test_the_last_good_document_of_an_earlier_agent_stays_in_force(desired, consul, unique):
    consul.put_kv(f"{unique}/desired/host1/piper", STOPPED)
    await first(desired)
    consul.put_kv(f"{unique}/desired/host1/piper", "{oops")
    entry = (await first(again(desired))).value.node[PIPER]
    assert entry.refused.code == "kv.bad_json"
    assert entry.override.state is DesiredState.STOPPED


async def test_a_reload_of_the_config_is_seen_without_a_change_in_kv(client, consul, unique, pace):
    defined = {PIPER: {}}
    desired = KvDesired(client, "host1", prefix=unique, params_of=defined.get, pace=pace)
    assert desired.current() is None
    consul.put_kv(f"{unique}/desired/host1/piper", '{"params": {"speed": 2}}')
    found = await first(desired)
    assert found.value.node[PIPER].refused.code == "kv.unknown_param"
    defined[PIPER] = {"speed": ParamSpec(1.0)}
    assert desired.current().node[PIPER].override.params == {"speed": 2.0}


async def test_after_consul_lost_its_state_the_documents_are_written_again(
    own_consul, connect, pace
):
    told = []
    desired = KvDesired(
        connect(own_consul.http), "host1", params_of=DEFINED.get, notify=told.append, pace=pace
    )
    own_consul.put_kv("lictor/desired/host1/piper", STOPPED)
    own_consul.put_kv("lictor/desired/host1/unheard-of", '{"state": "running"}')
    own_consul.put_kv("lictor/desired/_all/vllm", STOPPED)
    async with aclosing(desired.watch()) as changes:
        await good(changes)
        waiting = asyncio.create_task(anext(changes))
        await asyncio.to_thread(own_consul.restart, wipe=True)
        seen = await soon(waiting)
        after = seen.value if isinstance(seen, Known) else await good(changes)
    assert after.node[PIPER].override.state is DesiredState.STOPPED
    assert after.all_nodes[VLLM].override.state is DesiredState.STOPPED
    assert own_consul.get_kv("lictor/desired/host1/piper") == STOPPED
    assert own_consul.get_kv("lictor/desired/host1/unheard-of") == '{"state": "running"}'
    assert [reason.code for reason in told] == [
        "desired.first_contact",
        "consul.emptied",
        "desired.restored",
    ]
    assert told[2].params == {"documents": 3}


async def test_the_next_agent_restores_too_unless_it_is_told_never_to(own_consul, connect):
    client = connect(own_consul.http)
    desired = KvDesired(client, "host1", params_of=DEFINED.get)
    own_consul.put_kv("lictor/desired/host1/piper", STOPPED)
    await first(desired)
    await asyncio.to_thread(own_consul.restart, wipe=True)
    for number in range(60):  # its index may well be higher than the one that is remembered
        own_consul.put_kv(f"other/{number}", "x")
    never = again(desired, client=client, kv_restore="never")
    found = await first(never)
    assert isinstance(found, Unknown)
    assert found.reason.code == "desired.state_lost"
    # A key that is there again is newer than what is remembered.
    own_consul.put_kv("lictor/desired/host1/vllm", STOPPED)
    found = await first(again(desired, client=client))
    assert set(found.value.node) == {PIPER, VLLM}


async def test_a_restart_of_consul_that_keeps_its_disk_is_no_loss(own_consul, connect, pace):
    told = []
    desired = KvDesired(
        connect(own_consul.http), "host1", params_of=DEFINED.get, notify=told.append, pace=pace
    )
    own_consul.put_kv("lictor/desired/host1/piper", STOPPED)
    async with aclosing(desired.watch()) as changes:
        before = await good(changes)
        waiting = asyncio.create_task(anext(changes))
        await asyncio.sleep(0.3)  # so that it waits in its blocking query
        await asyncio.to_thread(own_consul.restart)
        assert isinstance(await soon(waiting), Unknown)
        after = await good(changes)
    assert after.node == before.node
    assert [reason.code for reason in told] == ["desired.first_contact"]


def rules(unique: str, policy: str) -> str:
    return f"""
        key_prefix "{unique}/" {{ policy = "{policy}" }}
        service_prefix "" {{ policy = "read" }}
        node_prefix "" {{ policy = "read" }}
    """


@pytest.fixture
def acl_desired(acl_consul, connect, unique, pace):
    def make(token, **fields) -> KvDesired:
        client = connect(acl_consul.http, token=token)
        given = {"prefix": unique, "params_of": DEFINED.get, "pace": pace}
        return KvDesired(client, "host1", **{**given, **fields})

    return make


async def test_a_read_without_rights_is_unknown_and_says_forbidden(acl_consul, acl_desired, unique):
    whole = acl_desired(acl_consul.token_for(rules(unique, "write")))
    await first(whole)
    for token, code in (
        ("", "consul.forbidden"),
        ("00000000-0000-4000-8000-000000000000", "consul.unknown_token"),
        (acl_consul.token_for(rules("elsewhere", "write")), "consul.forbidden"),
    ):
        for memory in (whole.remembered, None):
            found = await first(acl_desired(token, remembered=memory))
            assert isinstance(found, Unknown)
            assert found.reason.code == code


async def test_a_token_that_may_only_read_can_follow_but_not_make_the_sentinels(
    acl_consul, acl_desired, unique
):
    reader = acl_desired(acl_consul.token_for(rules(unique, "read")))
    assert (await first(reader)).reason.code == "consul.forbidden"
    await first(acl_desired(acl_consul.token_for(rules(unique, "write"))))
    assert isinstance(await first(reader), Known)


@pytest.fixture
async def hiding(acl_consul, acl_desired, unique):
    """A watch whose token may no longer see piper's document: itself, its answers, its tokens."""
    tokens = [acl_consul.token_for(rules(unique, "write"))]
    desired = acl_desired(lambda: tokens[-1], pace=Pace(wait=0.5))
    acl_consul.put_kv(f"{unique}/desired/host1/piper", STOPPED)
    async with aclosing(desired.watch()) as changes:
        await good(changes)
        narrow = rules(unique, "write") + f'key "{unique}/desired/host1/piper" {{policy = "deny"}}'
        tokens.append(acl_consul.token_for(narrow))
        assert (await next_of(changes)).reason.code == "desired.keys_hidden"
        yield desired, changes, tokens


async def test_a_token_that_loses_rights_to_some_keys_deletes_nothing(hiding):
    _, changes, tokens = hiding
    tokens.pop()
    assert PIPER in (await good(changes)).node


async def test_rights_that_come_back_right_after_a_read_do_not_make_it_whole(
    acl_consul, hiding, unique
):
    desired, changes, tokens = hiding
    ask = desired._client.kv_may_read

    async def widened(path):
        del tokens[1:]
        await ask(path)

    desired._client.kv_may_read = widened
    acl_consul.put_kv(f"{unique}/desired/host1/redis", STOPPED)  # the index says: written since
    assert PIPER in (await good(changes)).node


async def test_a_document_that_is_made_anew_right_after_its_deletion_was_not_hidden(
    acl_consul, acl_desired, unique
):
    token = acl_consul.token_for(rules(unique, "write"))
    desired = acl_desired(token, pace=Pace(wait=0.5))
    path = f"{unique}/desired/host1/piper"
    acl_consul.put_kv(path, STOPPED)
    async with aclosing(desired.watch()) as changes:
        assert PIPER in (await good(changes)).node
        ask = desired._client.kv_may_read

        async def made_anew(asked):
            desired._client.kv_may_read = ask
            acl_consul.put_kv(asked, {"state": "running"})
            await ask(asked)

        desired._client.kv_may_read = made_anew
        acl_consul.raw("DELETE", f"kv/{path}")
        assert PIPER not in (await good(changes)).node
        assert (await good(changes)).node[PIPER].override.state is DesiredState.RUNNING


async def test_a_revoked_token_is_told_while_the_watch_runs(acl_consul, acl_desired, unique):
    token = acl_consul.token_for(rules(unique, "write"))
    accessor = acl_consul.raw("GET", "acl/token/self", token=token).json["AccessorID"]
    async with aclosing(acl_desired(token).watch()) as changes:
        await good(changes)
        acl_consul.raw("DELETE", f"acl/token/{accessor}")
        unknown = await next_of(changes)
        assert unknown.reason.code == "consul.unknown_token"


async def test_a_watch_that_is_cancelled_leaves_nothing_behind(desired):
    started = asyncio.Event()

    async def follow():
        async for _ in desired.watch():
            started.set()

    task = asyncio.create_task(follow())
    await soon(started.wait())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(task)
    others = [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]
    assert await until(lambda: all(each.done() for each in others))
