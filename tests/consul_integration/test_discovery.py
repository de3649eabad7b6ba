"""Discovery against a real Consul."""

import pytest

from lictor.consul_integration.discovery import ConsulDiscovery
from lictor.core.errors import BadRequest, Forbidden, Garbage
from lictor.core.model.known import Unknown
from tests.support.liar import answer, liar
from tests.support.patience import until

pytestmark = pytest.mark.consul


@pytest.fixture
def discovery(client):
    return ConsulDiscovery(client)


def register(consul, name, number=1, *, status="passing", **fields):
    service_id = f"{name}-{number}"
    check = {"CheckID": f"{service_id}:c", "Name": "c", "TTL": "1h", "Status": status}
    body = {"ID": service_id, "Name": name, "Port": 5000 + number, "Checks": [check], **fields}
    assert consul.raw("PUT", "agent/service/register", body).status == 200
    return service_id


async def visible(discovery, name, count):
    async def enough():
        found = await discovery.discover(name)
        return len(found) == count and found

    return await until(enough)


async def test_an_instance_is_told_with_everything_that_a_client_needs(discovery, consul, unique):
    register(consul, unique, Address="10.1.2.3", Tags=["tts", "cpu"], Meta={"a": "b"})
    (found,) = await visible(discovery, unique, 1)
    assert (found.service, found.id, found.node) == (unique, f"{unique}-1", consul.node)
    assert (found.address, found.port) == ("10.1.2.3", 5001)
    assert (found.tags, found.meta, found.health) == (("tts", "cpu"), {"a": "b"}, "passing")


async def test_without_an_address_of_its_own_the_nodes_address_counts(discovery, consul, unique):
    register(consul, unique)
    (found,) = await visible(discovery, unique, 1)
    assert found.address == "127.0.0.1"


async def test_the_worst_check_decides_and_its_first_line_is_told(discovery, consul, unique):
    service_id = register(consul, unique)
    check = f"{service_id}:c"
    extra = {"ID": f"{service_id}:d", "Name": "d", "TTL": "1h", "ServiceID": service_id}
    added = consul.raw("PUT", "agent/check/register", {**extra, "Status": "warning"})
    assert added.status == 200
    consul.raw("PUT", f"agent/check/update/{check}", {"Status": "critical", "Output": "\nдва\nb"})

    async def health(word):
        (found,) = await discovery.discover(unique)
        return found.health == word and found

    assert (await until(lambda: health("critical"))).output == "два"
    consul.raw("PUT", f"agent/check/update/{check}", {"Status": "passing", "Output": ""})
    assert await until(lambda: health("warning"))


async def test_maintenance_is_a_word_of_its_own_with_its_reason(discovery, consul, unique):
    service_id = register(consul, unique, status="critical")
    consul.raw("PUT", f"agent/service/maintenance/{service_id}?enable=true&reason=new+driver")

    async def maintained():
        (found,) = await discovery.discover(unique)
        return found.health == "maintenance" and found

    assert (await until(maintained)).output == "new driver"


async def test_a_tag_keeps_the_instances_that_carry_it(discovery, consul, unique):
    register(consul, unique, 1, Tags=["gpu"])
    register(consul, unique, 2, Tags=["cpu"])
    await visible(discovery, unique, 2)
    assert [each.id for each in await discovery.discover(unique, tag="cpu")] == [f"{unique}-2"]
    tagged = [each.id for each in await discovery.discover(tag="cpu") if each.service == unique]
    assert tagged == [f"{unique}-2"]


async def test_without_a_name_all_services_are_told_in_order(discovery, consul, unique):
    for number in (2, 1):
        register(consul, unique, number)
        register(consul, f"{unique}-other", number)
    await visible(discovery, f"{unique}-other", 2)
    found = await discovery.discover()
    assert found == sorted(found, key=lambda each: (each.service, each.node, each.id))
    ids = [each.id for each in found if each.service.startswith(unique)]
    assert ids == [f"{unique}-1", f"{unique}-2", f"{unique}-other-1", f"{unique}-other-2"]
    assert "consul" in {each.service for each in found}


async def test_a_service_that_does_not_exist_gives_nothing(discovery, unique):
    assert await discovery.discover(unique) == []
    assert await discovery.discover(f"{unique} ?#/x") == []


async def test_an_unknown_datacenter_is_a_bad_request_with_or_without_a_name(discovery):
    for name in ("consul", None):
        with pytest.raises(BadRequest, match="datacenter"):
            await discovery.discover(name, dc="nowhere")


async def test_the_own_datacenter_can_be_named(discovery, consul, unique):
    register(consul, unique)
    await visible(discovery, unique, 1)
    assert len(await discovery.discover(unique, dc="dc1")) == 1


@pytest.mark.parametrize("body", ["[{}]", '[{"Node": 1, "Service": 2}]', '[{"Node": {}}]', "[5]"])
async def test_an_entry_that_makes_no_sense_is_garbage(connect, body):
    async with liar(lambda _: answer(body)) as server:
        with pytest.raises(Garbage):
            await ConsulDiscovery(connect(server.url)).discover("x")


@pytest.mark.parametrize(
    ("rules", "lacking"),
    [
        ('service_prefix "" { policy = "read" }', "node_prefix"),
        ('node_prefix "" { policy = "read" }', "service"),
    ],
)
async def test_what_the_token_may_not_see_is_never_said_to_be_nothing(
    acl_consul, connect, unique, rules, lacking
):
    register(acl_consul, unique)
    narrow = ConsulDiscovery(connect(acl_consul.http, token=acl_consul.token_for(rules)))
    for name in (unique, None):
        with pytest.raises(Forbidden, match=f'`{lacking}.* "read" }}`'):
            await narrow.discover(name)
    nobody = ConsulDiscovery(connect(acl_consul.http))
    with pytest.raises(Forbidden, match="has no token"):
        await nobody.discover(unique)
    allowed = ConsulDiscovery(connect(acl_consul.http, token=acl_consul.master))
    assert await allowed.discover("no-such-service") == []


async def test_a_watch_says_what_the_token_may_not_see(acl_consul, connect, unique, pace):
    register(acl_consul, unique)
    token = acl_consul.token_for('service_prefix "" { policy = "read" }')
    narrow = ConsulDiscovery(connect(acl_consul.http, token=token))
    changes = narrow.changes(unique, pace=pace)
    seen = await anext(changes)
    await changes.aclose()
    assert isinstance(seen, Unknown)
    assert seen.reason.code == "consul.forbidden"
