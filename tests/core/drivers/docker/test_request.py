"""From a definition to the container it asks for, without any engine."""

from __future__ import annotations

import os

import pytest

from lictor.core.drivers.docker.judging import port_is_hidden
from lictor.core.drivers.docker.request import (
    bind,
    container_name,
    folder_of,
    job_request,
    service_request,
)
from lictor.core.drivers.docker.terms import exit_of
from lictor.core.model.container import ContainerSpec, Published, published
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import Limits, ParamRef, ParamSpec, ServiceSpec
from lictor.core.model.state import Exit


def spec(key="piper", container=None, **fields) -> ServiceSpec:
    fields.setdefault("command", ("--model", "m"))
    return ServiceSpec(
        key=ServiceKey.parse(key),
        driver="docker",
        docker=container or ContainerSpec("vllm/vllm-openai:v1"),
        **fields,
    )


def request(one: ServiceSpec):
    return service_request(one, owner="me", node="host1")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("8000:80", Published("127.0.0.1", 8000, 80)),
        ("8000", Published("127.0.0.1", 8000, 8000)),
        ("0.0.0.0:8000:80", Published("0.0.0.0", 8000, 80)),
        ("[::1]:8000:80/udp", Published("::1", 8000, 80, "udp")),
    ],
)
def test_a_port_is_published_on_loopback_unless_an_address_is_written(text, meant):
    assert published(text) == meant


@pytest.mark.parametrize(
    "text", ["", "x", "80:", "1:2:3", "0:80", "70000:80", "host:1:2", "8000:80/ip"]
)
def test_what_is_no_port_is_refused(text):
    with pytest.raises(ValueError, match="port"):
        published(text)


def test_the_name_says_node_service_and_instance_unless_one_is_given():
    assert container_name(spec(), "host1") == "lictor-host1-piper"
    assert container_name(spec("piper@a"), "host1") == "lictor-host1-piper-a"
    named = spec(container=ContainerSpec("x", name="ai-secretary-vllm"))
    assert container_name(named, "host1") == "ai-secretary-vllm"


def test_a_container_is_marked_with_owner_service_node_and_definition():
    one = spec("piper@a")
    assert request(one).labels == {
        "lictor.owner": "me",
        "lictor.service": "piper@a",
        "lictor.node": "host1",
        "lictor.fingerprint": one.fingerprint(),
    }


def test_the_agents_own_path_and_home_stay_out_of_a_container(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    env = {"PATH": os.environ["PATH"], "HOME": "/somewhere", "LANG": "xx", "HF_TOKEN": "secret"}
    made = request(spec(env=env, env_names=()))
    assert dict(made.environment) == {
        "LANG": "xx",  # not the agent's: the definition's env_file said it
        "HF_TOKEN": "secret",
        "LICTOR_AGENT": "me",
        "LICTOR_SERVICE": "piper",
        "LICTOR_NODE": "host1",
    }
    assert request(spec(env=env, env_names=("HOME",))).environment["HOME"] == "/somewhere"
    assert "secret" not in repr(made)


def test_a_folder_counts_from_the_services_own_and_a_named_volume_stays_a_name():
    assert bind("./cache:/cache", "/srv/app") == "/srv/app/cache:/cache"
    assert bind("../x:/x:ro", "/srv/app") == "/srv/x:/x:ro"
    assert bind("hf-cache:/cache", "/srv/app") == "hf-cache:/cache"
    assert bind("/data:/data:ro", "/srv/app") == "/data:/data:ro"
    assert str(folder_of("image", "/srv/app")) == "/srv/app/image"


def test_the_command_follows_the_image_and_may_be_another_in_a_container():
    params = {"model": ParamSpec("a/b")}
    plain = spec(command=("serve", ParamRef("model")), params=params)
    assert request(plain).command == ("serve", "a/b")
    own = spec(
        command=("vllm", "serve"), container_command=("--model", ParamRef("model")), params=params
    )
    assert request(own).command == ("--model", "a/b")
    assert own.fingerprint() != own.with_params({"model": "c/d"}).fingerprint()
    assert request(spec(command=())).command is None


def test_limits_user_and_the_rest_are_the_containers():
    made = request(
        spec(
            container=ContainerSpec(
                "x", network="ai-secretary", shm_size=2**30, ipc="host", init=False, ports=("1:2",)
            ),
            user="1000",
            group="50",
            limits=Limits(memory=2**31, cpu=1.5, tasks=100),
            gpus=("GPU-1",),
        )
    )
    assert (made.user, made.memory, made.cpu, made.tasks) == ("1000:50", 2**31, 1.5, 100)
    assert (made.shm_size, made.ipc, made.init, made.gpus) == (2**30, "host", False, ("GPU-1",))
    assert made.own_network == "ai-secretary"
    assert made.ports == (Published("127.0.0.1", 1, 2),)


@pytest.mark.parametrize("network", [None, "host", "none", "bridge", "container:db"])
def test_a_network_that_every_engine_has_is_not_made(network):
    made = request(spec(container=ContainerSpec("x", network=network, ports=("1:2",))))
    assert made.own_network is None
    shared = network in {"host", "container:db"}
    assert bool(made.ports) is not shared  # there is nothing to publish on somebody else's network


def test_a_job_is_another_program_in_the_same_image_without_the_ports():
    one = spec(container=ContainerSpec("x", ports=("1:2",), volumes=("/d:/d",)))
    made = job_request(one, ("python", "-m", "migrate"), owner="me", node="host1")
    assert (made.entrypoint, made.command) == (("python",), ("-m", "migrate"))
    assert made.name == "lictor-host1-piper-before"
    assert made.labels["lictor.job"] == "1"
    assert (made.ports, made.binds, made.gpus) == ((), ("/d:/d",), ())


@pytest.mark.parametrize(
    ("container", "hidden"),
    [
        ({}, True),
        ({"network": "ai"}, True),
        ({"ports": ("5000:80",)}, False),
        ({"ports": ("5001:5000",)}, True),
        ({"network": "host"}, False),
        ({"network": "container:db"}, False),
    ],
)
def test_a_registered_port_that_leads_nowhere_is_noticed(monkeypatch, container, hidden):
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    assert port_is_hidden(spec(container=ContainerSpec("x", **container), port=5000)) is hidden
    assert not port_is_hidden(spec(container=ContainerSpec("x", **container)))


@pytest.mark.parametrize(
    ("code", "oom", "meant"),
    [
        (0, False, Exit(code=0)),
        (3, False, Exit(code=3)),
        (137, False, Exit(signal=9)),
        (137, True, Exit(signal=9, oom=True)),
        (143, True, Exit(signal=15)),
        (1, True, Exit(code=1, oom=True)),
        (255, False, Exit(code=255)),
        (None, False, Exit()),
    ],
)
def test_a_kill_and_a_lack_of_memory_are_told_apart(code, oom, meant):
    assert exit_of(code, oom=oom) == meant
