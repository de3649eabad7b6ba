"""The Python API for other programs, against a real Consul."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from lictor.consul_integration import BadArgument, ConsulServiceRegistry
from lictor.core.errors import (
    ConsulError,
    ConsulTimeout,
    ConsulUnreachable,
    Forbidden,
    LictorError,
    Refused,
)
from tests.support.agent import wait_until
from tests.support.consul import ConsulServer, free_ports
from tests.support.liar import answer, liar

pytestmark = pytest.mark.consul

URL = "http://127.0.0.1:9/health"


@pytest.fixture
def make(consul: ConsulServer) -> Iterator[Callable[..., ConsulServiceRegistry]]:
    """Makes registries and closes them."""
    with contextlib.ExitStack() as stack:
        yield lambda address=None, **options: stack.enter_context(
            ConsulServiceRegistry(address or consul.http, **options)
        )


@pytest.fixture
def registry(make: Callable[..., ConsulServiceRegistry]) -> ConsulServiceRegistry:
    return make()


def test_a_service_is_registered_found_listed_and_removed_again(registry, consul, unique):
    service_id = registry.register_service(unique, "127.0.0.1", 5000, URL, tags=["tts"])
    entry = consul.raw("GET", f"agent/service/{service_id}").json
    assert (entry["Service"], entry["Address"], entry["Port"]) == (unique, "127.0.0.1", 5000)
    wait_until(lambda: registry.get_service_status(unique)["total"] == 1)
    status = registry.get_service_status(unique)
    assert (status["service"], status["status"], status["passing"]) == (unique, "critical", 0)
    instance = status["instances"][0]
    assert (instance["id"], instance["address"], instance["port"], instance["tags"]) == (
        service_id,
        "127.0.0.1",
        5000,
        ["tts"],
    )
    listed = {one["service"]: one for one in registry.list_services()}
    assert listed[unique] == status
    assert listed["consul"]["status"] == "passing"

    assert registry.deregister_service(service_id) is True
    assert registry.deregister_service(service_id) is False
    wait_until(lambda: registry.get_service_status(unique)["status"] == "absent")


async def test_consul_asks_the_url_and_the_status_follows_from_within_a_running_loop(
    registry, unique
):
    # Called as an asyncio program would: the private loop is another thread's.
    async with liar(lambda _: answer("fine")) as service:
        url = f"{service.url}/health"
        registry.register_service(unique, "127.0.0.1", service.port, url, interval=1)

        async def passing() -> bool:
            return registry.get_service_status(unique)["status"] == "passing"

        deadline = time.monotonic() + 20
        while not await passing():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        listed = await asyncio.to_thread(registry.list_services)
        assert {one["service"]: one["passing"] for one in listed}[unique] == 1


def test_without_a_url_consul_tries_the_port(registry, unique):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        registry.register_service(unique, "127.0.0.1", port, None, interval=1)
        wait_until(lambda: registry.get_service_status(unique)["status"] == "passing")


def test_registering_again_moves_nothing_and_another_kind_of_check_leaves_no_old_one(
    registry, consul, unique
):
    service_id = registry.register_service(unique, "127.0.0.1", 5000, URL)
    wait_until(lambda: registry.get_service_status(unique)["total"] == 1)
    index = consul.raw("GET", f"health/service/{unique}").index
    assert registry.register_service(unique, "127.0.0.1", 5000, URL) == service_id
    assert consul.raw("GET", f"health/service/{unique}").index == index
    registry.register_service(unique, "127.0.0.1", 5000, None)
    checks = consul.raw("GET", "agent/checks").json.values()
    assert [c["CheckID"] for c in checks if c["ServiceID"] == service_id] == [f"{service_id}:tcp"]


def test_a_name_that_dns_cannot_carry_is_mapped_and_kept_in_meta(registry, consul, unique):
    service_id = registry.register_service(f"GPT_{unique}", "localhost", 5000, URL)
    entry = consul.raw("GET", f"agent/service/{service_id}").json
    assert entry["Service"] == f"gpt-{unique}"
    assert entry["Meta"]["lictor-name"] == f"GPT_{unique}"
    wait_until(lambda: registry.get_service_status(f"GPT_{unique}")["total"] == 1)


def test_entries_of_others_are_neither_changed_nor_removed(registry, make, consul, unique):
    foreign = f"lictor-api:{unique}:127.0.0.1:5000"
    for meta in ({}, {"lictor-owner": "python"}, {"lictor-api-owner": "another"}):
        body = {"ID": foreign, "Name": unique, "Port": 1, "Meta": meta}
        assert consul.raw("PUT", "agent/service/register", body).status == 200
        with pytest.raises(Refused, match="left alone"):
            registry.deregister_service(foreign)
        with pytest.raises(Refused, match="left alone"):
            registry.register_service(unique, "127.0.0.1", 5000, URL)
        assert consul.raw("GET", f"agent/service/{foreign}").json["Port"] == 1
    assert make(owner="another").deregister_service(foreign) is True


GOOD = {"service_name": "x", "host": "127.0.0.1", "port": 5000, "health_check_url": URL}


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"service_name": "a.b"}, "service_name"),
        ({"service_name": "голос"}, "service_name"),
        ({"service_name": ""}, "service_name"),
        ({"service_name": 7}, "service_name"),
        ({"service_name": "a" * 64}, "service_name"),
        ({"service_name": "Consul"}, "reserved"),
        ({"host": ""}, "host"),
        ({"host": "a b"}, "host"),
        ({"host": "http://x"}, "host"),
        ({"host": "0.0.0.0"}, "every address"),
        ({"host": "::"}, "every address"),
        ({"port": 0}, "port"),
        ({"port": 70000}, "port"),
        ({"port": "5000"}, "port"),
        ({"port": True}, "port"),
        ({"health_check_url": "127.0.0.1:5000"}, "health_check_url"),
        ({"health_check_url": "ftp://x/"}, "health_check_url"),
        ({"health_check_url": "http://"}, "health_check_url"),
        ({"health_check_url": "http://x:99999/"}, "health_check_url"),
        ({"health_check_url": "http://x/\r\nX: y"}, "health_check_url"),
        ({"health_check_url": ""}, "health_check_url"),
        ({"tags": "tts"}, "tags"),
        ({"tags": ["голос"]}, "tag"),
        ({"meta": {"a.b": "c"}}, "meta"),
        ({"meta": {"a": "x" * 513}}, "meta"),
        ({"meta": {"lictor-owner": "me"}}, "reserved"),
        ({"interval": 0}, "interval"),
        ({"interval": float("nan")}, "interval"),
        ({"check_timeout": "5s"}, "check_timeout"),
        ({"deregister_critical_after": 1}, "deregister_critical_after"),
        ({"interval": True}, "interval"),
        ({"host": "256.1.1.1"}, "host"),
        ({"host": "fe80::1%eth0"}, "host"),
        ({"tags": None}, "tags"),
        ({"tags": 5}, "tags"),
        ({"meta": ["a"]}, "meta"),
        ({"meta": {5: "a"}}, "meta"),
        ({"meta": {"a": "\ud800"}}, "meta"),
    ],
)
def test_what_cannot_be_registered_is_refused_before_consul_is_asked(wrong, word):
    nobody = f"http://127.0.0.1:{free_ports(1)[0]}"
    with ConsulServiceRegistry(nobody) as registry, pytest.raises(BadArgument, match=word) as told:
        registry.register_service(**{**GOOD, **wrong})
    assert isinstance(told.value, ValueError)
    assert isinstance(told.value, LictorError)


@pytest.mark.parametrize(
    "options",
    [
        {"owner": ""},
        {"owner": "a b"},
        {"owner": None},
        {"timeout": 0},
        {"timeout": "5"},
        {"timeout": None},
        {"timeout": float("inf")},
        {"address": 8500},
        {"token": 5},
        {"token": "a\nb"},
        {"tls": "ca.pem"},
    ],
)
def test_an_impossible_registry_cannot_be_made(options):
    with pytest.raises(BadArgument):
        ConsulServiceRegistry(**options)


@pytest.mark.parametrize("wrong", [None, "", 5, "a/../b", "..", "a\nb", "\ud800"])
def test_what_is_no_id_or_name_is_refused_before_consul_is_asked(wrong):
    with ConsulServiceRegistry(f"http://127.0.0.1:{free_ports(1)[0]}") as registry:
        with pytest.raises(BadArgument):
            registry.deregister_service(wrong)
        with pytest.raises(BadArgument):
            registry.get_service_status(wrong)


def test_a_strangers_name_that_ours_would_not_be_is_found(registry, consul, unique):
    name = f"{unique.replace('-', '_')}_Server"
    assert consul.raw("PUT", "agent/service/register", {"Name": name, "Port": 1}).status == 200
    wait_until(lambda: registry.get_service_status(name)["total"], what="it is in the catalog")
    seen = registry.get_service_status(name)
    assert (seen["service"], seen["status"]) == (name, "passing")


def test_every_method_says_that_consul_is_away_and_works_again_when_it_is_back(
    own_consul, make, unique
):
    server = own_consul
    registry = make(server.http)
    service_id = registry.register_service(unique, "127.0.0.1", 5000, URL)
    server.kill()
    for call in (
        lambda: registry.register_service(unique, "127.0.0.1", 5000, URL),
        lambda: registry.deregister_service(service_id),
        lambda: registry.get_service_status(unique),
        registry.list_services,
    ):
        with pytest.raises(ConsulUnreachable):
            call()
    server.restart()
    assert registry.deregister_service(service_id) is True


def test_a_mute_consul_ends_in_a_timeout(own_consul, make, unique):
    server = own_consul
    registry = make(server.http, timeout=1.0)
    registry.get_service_status(unique)
    server.freeze()
    try:
        began = time.monotonic()
        with pytest.raises(ConsulTimeout):
            registry.get_service_status(unique)
        assert time.monotonic() - began < 8
    finally:
        server.thaw()


def test_rights_that_are_missing_are_said_and_never_taken_for_nothing(
    acl_consul: ConsulServer, make, unique
):
    without = make(acl_consul.http, token="0b6dbb3f-0000-4000-8000-0000000000ff")
    narrow = make(acl_consul.http, token=acl_consul.token_for('service "web" { policy = "read" }'))
    anonymous = make(acl_consul.http)
    service_id = f"lictor-api:{unique}:127.0.0.1:5000"
    for registry in (without, anonymous):
        with pytest.raises(Forbidden):
            registry.get_service_status(unique)
        with pytest.raises(Forbidden):
            registry.list_services()
    for registry in (without, narrow, anonymous):
        with pytest.raises(Forbidden):
            registry.register_service(unique, "127.0.0.1", 5000, URL)
    allowed = make(acl_consul.http, token=acl_consul.master)
    assert allowed.register_service(unique, "127.0.0.1", 5000, URL) == service_id
    for registry in (without, narrow, anonymous):
        with pytest.raises(Forbidden):
            registry.deregister_service(service_id)
    assert allowed.deregister_service(service_id) is True


def test_many_threads_share_one_registry(registry, unique):
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            name = f"{unique}-{number}"
            service_id = registry.register_service(name, "127.0.0.1", 5000 + number, URL)
            assert registry.deregister_service(service_id)
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures


def test_a_closed_registry_is_refused_and_its_thread_is_gone(consul):
    with ConsulServiceRegistry(consul.http) as registry:
        registry.list_services()
        assert [t for t in threading.enumerate() if t.name == "lictor-consul"]
    assert not [t for t in threading.enumerate() if t.name == "lictor-consul"]
    registry.close()
    with pytest.raises(ConsulError, match="closed"):
        registry.list_services()


SCRIPT = """
import os, sys
from lictor.consul_integration import ConsulServiceRegistry

registry = ConsulServiceRegistry()  # the address comes from the environment
mine = registry.register_service(sys.argv[1], "127.0.0.1", 5000, "http://127.0.0.1:9/")
child = os.fork()
if child == 0:
    names = [one["service"] for one in registry.list_services()]
    os._exit(0 if "consul" in names else 7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print(mine, registry.deregister_service(mine))
"""


def test_a_plain_script_needs_no_close_and_survives_a_fork(consul, unique):
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", SCRIPT, unique],
        env={"CONSUL_HTTP_ADDR": consul.http.removeprefix("http://"), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # In this mode asyncio also names what took a tenth of a second: a busy machine is no fault.
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("Executing <")]
    assert (done.returncode, complaints) == (0, []), done.stderr
    assert done.stdout == f"lictor-api:{unique}:127.0.0.1:5000 True\n"


AT_EXIT = """
import atexit, sys
from lictor.consul_integration import ConsulServiceRegistry

def leave():
    print(registry.deregister_service(service_id))

atexit.register(leave)  # before anything that the registry itself has Python do at its end
registry = ConsulServiceRegistry()
service_id = registry.register_service(sys.argv[1], "127.0.0.1", 5000, None)
"""


def test_a_script_may_deregister_when_python_ends(consul, unique):
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT, unique],
        env={"CONSUL_HTTP_ADDR": consul.http.removeprefix("http://"), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_a_token_that_may_not_read_nodes_is_told_so_and_nothing_is_absent(
    acl_consul: ConsulServer, make, unique
):
    token = acl_consul.token_for(f'service "{unique}" {{ policy = "write" }}')
    registry = make(acl_consul.http, token=token)
    service_id = registry.register_service(unique, "127.0.0.1", 5000, URL)
    for ask in (lambda: registry.get_service_status(unique), registry.list_services):
        with pytest.raises(Forbidden) as told:
            ask()
        assert 'node_prefix "" { policy = "read" }' in str(told.value)
    assert registry.deregister_service(service_id) is True
