"""The prepared queries of groups, against a real Consul."""

from __future__ import annotations

import asyncio

import pytest

from lictor.consul_integration.queries import ConsulQueries
from lictor.core.errors import ConsulUnreachable, Garbage
from tests.support.liar import answer, liar
from tests.support.patience import until

pytestmark = pytest.mark.consul


@pytest.fixture
def queries(client):
    return ConsulQueries(client)


def register(consul, group, member, *tags, status="passing", mark=True):
    """One member, as Lictor registers it: its own entry, and an alias of it under the group."""
    own, entry = f"{group}-{member}", f"{group}:{member}"
    check = {"CheckID": f"{own}:c", "Name": "c", "TTL": "1h", "Status": status}
    assert (
        consul.raw(
            "PUT", "agent/service/register", {"ID": own, "Name": own, "Checks": [check]}
        ).status
        == 200
    )
    body = {
        "ID": entry,
        "Name": group,
        "Port": 5000,
        "Tags": [member, *tags],
        "Meta": {"lictor-group": group} if mark else {},
        "Checks": [{"CheckID": f"{entry}:a", "Name": "a", "AliasService": own}],
    }
    assert consul.raw("PUT", "agent/service/register", body).status == 200
    return f"{own}:c"


def answered(consul, group):
    nodes = consul.raw("GET", f"query/{group}/execute").json["Nodes"]
    return sorted(node["Service"]["ID"] for node in nodes)


async def test_it_answers_with_the_members_that_do_not_stand_by(queries, consul, unique):
    register(consul, unique, "xtts")
    register(consul, unique, "piper", "standby")
    register(consul, unique, "stranger", mark=False)
    assert await queries.ensure([unique]) == {}
    assert await until(lambda: answered(consul, unique) == [f"{unique}:xtts"])


async def test_who_warns_still_answers_and_who_is_critical_does_not(queries, consul, unique):
    check = register(consul, unique, "xtts")
    await queries.ensure([unique])
    await until(lambda: answered(consul, unique))
    consul.raw("PUT", f"agent/check/update/{check}", {"Status": "warning"})
    await asyncio.sleep(0.3)
    assert answered(consul, unique) == [f"{unique}:xtts"]
    consul.raw("PUT", f"agent/check/update/{check}", {"Status": "critical"})
    await until(lambda: answered(consul, unique) == [])


async def test_asked_again_nothing_is_written(queries, consul, unique):
    def ours():
        return [query for query in consul.raw("GET", "query").json if query["Name"] == unique]

    await asyncio.gather(*(queries.ensure([unique]) for _ in range(5)))
    before = ours()
    assert len(before) == 1
    assert await queries.ensure([unique]) == {}
    assert ours() == before


async def test_one_of_ours_that_was_changed_is_mended_under_its_id(queries, consul, unique):
    await queries.ensure([unique])
    (before,) = (q for q in consul.raw("GET", "query").json if q["Name"] == unique)
    changed = {**before["Service"], "Tags": []}
    body = {"Name": unique, "Service": changed}
    assert consul.raw("PUT", f"query/{before['ID']}", body).status == 200
    assert await queries.ensure([unique]) == {}
    (after,) = (q for q in consul.raw("GET", "query").json if q["Name"] == unique)
    assert after["ID"] == before["ID"]
    assert after["Service"]["Tags"] == ["!standby"]
    assert after["DNS"]["TTL"] == "0s"


async def test_somebody_elses_query_is_never_touched(queries, consul, unique):
    theirs = {"Name": unique, "Service": {"Service": "theirs", "Tags": ["!standby"]}}
    assert consul.raw("POST", "query", theirs).status == 200
    trouble = await queries.ensure([unique])
    assert trouble[unique].code == "group.query_taken"
    (query,) = (q for q in consul.raw("GET", "query").json if q["Name"] == unique)
    assert query["CreateIndex"] == query["ModifyIndex"]


async def test_without_the_right_the_missing_rule_is_told_for_that_group_alone(
    connect, acl_consul, unique
):
    allowed, denied = f"{unique}-a", f"{unique}-d"
    token = acl_consul.token_for(f'query "{allowed}" {{ policy = "write" }}')
    queries = ConsulQueries(connect(acl_consul.http, token=token))
    trouble = await queries.ensure([allowed, denied])
    assert list(trouble) == [denied]
    assert trouble[denied].code == "group.query_forbidden"
    assert [q["Name"] for q in acl_consul.raw("GET", "query").json if unique in q["Name"]] == [
        allowed
    ]


async def test_a_query_that_may_not_be_seen_is_not_made_a_second_time(connect, acl_consul, unique):
    master = ConsulQueries(connect(acl_consul.http, token=acl_consul.master))
    assert await master.ensure([unique]) == {}
    blind = ConsulQueries(connect(acl_consul.http, token=acl_consul.token_for("")))
    assert (await blind.ensure([unique]))[unique].code == "group.query_forbidden"
    assert sum(q["Name"] == unique for q in acl_consul.raw("GET", "query").json) == 1


async def test_what_is_no_list_of_queries_is_garbage_and_no_consul_is_said(connect):
    async with liar(lambda _: answer('{"a": 1}')) as server:
        with pytest.raises(Garbage):
            await ConsulQueries(connect(server.url)).ensure(["voice"])
    with pytest.raises(ConsulUnreachable):
        await ConsulQueries(connect("http://127.0.0.1:1")).ensure(["voice"])
