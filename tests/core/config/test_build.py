"""What a service becomes: defaults that depend on other keys, paths, environment, health."""

from __future__ import annotations

import pytest

from lictor.core.model.container import ContainerSpec
from lictor.core.model.gpu import GpuSpec
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import Dependency, HealthSpec, Limits, ProbeSpec, RecycleSpec
from tests.core.config.support import ENV, accepted, one, problems, refused_one


def test_a_short_service_gets_every_default(tmp_path):
    spec = one(tmp_path, "{command: [x]}")
    assert (spec.driver, spec.activation, spec.cwd) == ("process", "always", str(tmp_path))
    assert (spec.host, spec.address, spec.port) == ("127.0.0.1", "127.0.0.1", None)
    assert spec.health == HealthSpec(probe=None)
    assert spec.restart.max_restarts is None
    assert spec.env == ENV
    assert spec.registered


def test_every_key_of_the_contract_is_accepted(tmp_path):
    (tmp_path / ".env").write_text("FROM_FILE=1\n")
    spec = one(
        tmp_path,
        """
    description: text
    driver: docker
    command: [python, "{port}"]
    before: [[migrate, up]]
    docker: {image: i, name: n, network: host, volumes: ["a:b"], ports: ["1:2"], shm_size: 16GiB,
             ipc: host, build: .}
    cwd: sub
    env: {KEY: value}
    env_file: .env
    inherit_env: [HF_TOKEN]
    user: piper:audio
    umask: 027
    host: 0.0.0.0
    port: 5000
    health: {http: "http://{host}:{port}/info", interval: 10s, timeout: 5s, startup: 180s,
             failures: 4, on_unhealthy: ignore}
    checks: {db: {tcp: "h:1"}, pg: {postgres: "h:2", interval: 1m}, c: {command: [t]}}
    restart: {policy: on-failure, backoff: 1s, max_backoff: 5m, max_restarts: unlimited, reset_after: 10m}
    stop: {signal: SIGINT, timeout: 20s, pause: 0s}
    depends_on: {redis: {required: false}}
    optional: true
    activation: on-demand
    idle_timeout: 15m
    gpu: {memory: 6GiB, min_compute_capability: 7.0, devices: [1], pinned: true}
    limits: {memory: 2GiB, cpu: 1.5, tasks: 100}
    recycle: {rss: 4GiB, age: 24h}
    log: {max_size: 1MiB, keep: 2}
    logs: [extra/file.log]
    group: voice
    rank: 30
    params: {model: {default: a, choices: [a, b]}}
    modes: [full, local]
    owner: anna
    tags: [tts, cpu]
    meta: {k: v}
    metrics: /metrics
    register: false
  redis: {driver: observed, port: 6379}
""",
        {"HF_TOKEN": "t"},
    )
    assert (spec.user, spec.group, spec.umask) == ("piper", "audio", 0o027)
    assert spec.env == ENV | {"FROM_FILE": "1", "HF_TOKEN": "t", "KEY": "value"}
    assert spec.health == HealthSpec(
        ProbeSpec("http", "http://127.0.0.1:5000/info"), 180.0, 4, "ignore"
    )
    assert spec.checks == {
        "db": ProbeSpec("tcp", "h:1"),
        "pg": ProbeSpec("postgres", "h:2", interval=60.0),
        "c": ProbeSpec("command", argv=("t",)),
    }
    assert (spec.stop.signal, spec.stop.pause) == ("INT", 0.0)
    assert spec.depends_on == (Dependency("redis", required=False),)
    assert spec.docker == ContainerSpec(
        image="i",
        name="n",
        network="host",
        volumes=("a:b",),
        ports=("1:2",),
        shm_size=16 << 30,
        ipc="host",
        build=".",
    )
    assert spec.gpu == GpuSpec(6 << 30, 7.0, ("1",), pinned=True)
    assert spec.later == {"idle_timeout": 900.0, "metrics": "/metrics"}
    assert spec.recycle == RecycleSpec(rss=4 << 30, age=86400.0)
    assert spec.limits == Limits(memory=2 << 30, cpu=1.5, tasks=100)
    assert spec.recycle == RecycleSpec(rss=4 << 30, age=86400.0)
    assert (spec.voice_group, spec.rank, spec.owner) == ("voice", 30, "anna")
    assert spec.logs == (f"{tmp_path}/sub/extra/file.log",)
    assert spec.modes == ("full", "local")
    assert not spec.registered


@pytest.mark.parametrize(
    ("keys", "address"),
    [
        ("host: 10.0.0.7", "10.0.0.7"),
        ("host: 0.0.0.0", "192.168.1.10"),
        ("host: '::'", "192.168.1.10"),
        ("host: 0.0.0.0, address: example.org", "example.org"),
    ],
)
def test_what_is_registered_is_what_others_can_connect_to(tmp_path, keys, address):
    text = f"agent: {{advertise: 192.168.1.10}}\nservices:\n  a: {{command: [x], {keys}}}\n"
    assert accepted(tmp_path, text).services[ServiceKey("a")].address == address


def test_without_advertise_a_wildcard_is_registered_as_loopback(tmp_path):
    assert one(tmp_path, "{command: [x], host: 0.0.0.0}").address == "127.0.0.1"


@pytest.mark.parametrize(
    ("keys", "kind", "target"),
    [
        ("port: 80", "tcp", "127.0.0.1:80"),
        ("port: 80, host: 0.0.0.0", "tcp", "127.0.0.1:80"),
        ("port: 80, host: '::'", "tcp", "[::1]:80"),
        ("port: 80, host: '::1', health: {http: /up}", "http", "http://[::1]:80/up"),
        ('port: 80, health: {http: "http://{host}:{port}/"}', "http", "http://127.0.0.1:80/"),
        ('port: 80, host: "::1", health: {http: "http://{host}/"}', "http", "http://[::1]/"),
        (
            "port: 80, health: {http: 'https://example.org/x?y=1'}",
            "http",
            "https://example.org/x?y=1",
        ),
        ("health: {tcp: 'db:5432'}", "tcp", "db:5432"),
        ("health: {tcp: 5432}", "tcp", "127.0.0.1:5432"),
        ('port: 80, health: {tcp: "{host}:{port}"}', "tcp", "127.0.0.1:80"),
        ("port: 80, health: {startup: 5m}", "tcp", "127.0.0.1:80"),
        ("driver: observed, address: 10.0.0.5, port: 80", "tcp", "10.0.0.5:80"),
    ],
)
def test_the_health_check_asks_where_the_service_can_be_reached(tmp_path, keys, kind, target):
    probe = one(tmp_path, f"{{command: [x], {keys}}}").health.probe
    assert probe is not None
    assert (probe.kind, probe.target) == (kind, target)


def test_health_none_means_no_probe_even_with_a_port(tmp_path):
    assert one(tmp_path, "{command: [x], port: 80, health: none}").health == HealthSpec(None)


def test_a_health_command_is_a_list(tmp_path):
    probe = one(tmp_path, '{command: [x], port: 80, health: {command: [t, "{port}"]}}').health.probe
    assert probe == ProbeSpec("command", argv=("t", "80"))


def test_paths_count_from_the_folder_of_the_config(tmp_path):
    assert one(tmp_path, "{command: [x], cwd: ../y/./z}").cwd == str(tmp_path.parent / "y" / "z")
    assert one(tmp_path, "{command: [x], cwd: /abs}").cwd == "/abs"
    assert one(tmp_path, "{command: [x], cwd: ~/b}").cwd == "/home/anna/b"


def test_an_observed_service_needs_no_command_and_an_unused_one_is_noted(tmp_path):
    config = accepted(tmp_path, "services:\n  a: {driver: observed, port: 80, command: [x]}\n")
    assert config.services[ServiceKey("a")].command == ()
    assert [(n.line, n.column, n.where) for n in config.notes] == [(2, 35, "services.a.command")]


def test_local_and_full_are_one_mode(tmp_path):
    assert one(tmp_path, "{command: [x], modes: [local]}").modes == ("full", "local")
    assert one(tmp_path, "{command: [x], modes: [cloud]}").modes == ("cloud",)


def test_a_child_gets_no_variable_that_nobody_named(tmp_path):
    agent = {"CONSUL_HTTP_TOKEN": "ours", "HF_TOKEN": "h", "TZ": "UTC", "AWS_SECRET": "x"}
    assert one(tmp_path, "{command: [x]}", agent).env == ENV | {"TZ": "UTC"}
    spec = one(tmp_path, "{command: [x], inherit_env: [HF_TOKEN, MISSING]}", agent)
    assert spec.env == ENV | {"TZ": "UTC", "HF_TOKEN": "h"}
    assert "ours" not in repr(spec)


def test_our_consul_token_is_handed_on_only_by_env(tmp_path):
    agent = {"CONSUL_HTTP_TOKEN": "ours"}
    text = "services:\n  a: {command: [x], inherit_env: [CONSUL_HTTP_TOKEN]}\n"
    line, column, message = refused_one(tmp_path, text, agent)
    assert (line, column) == (2, 35)
    assert "Lictor's own key to Consul" in message
    spec = one(tmp_path, "{command: [x], env: {CONSUL_HTTP_TOKEN: '${CONSUL_HTTP_TOKEN}'}}", agent)
    assert spec.env["CONSUL_HTTP_TOKEN"] == "ours"


def test_the_value_written_nearest_to_the_service_wins(tmp_path):
    (tmp_path / "e").write_text("A=file\nB=file\nC=file\nPATH=/file\n")
    spec = one(
        tmp_path,
        "{command: [x], env_file: e, inherit_env: [A, B], env: {A: env}}",
        {"A": "agent", "B": "agent", "C": "agent"},
    )
    assert [spec.env[name] for name in ("A", "B", "C", "PATH")] == ["env", "agent", "file", "/file"]


def test_an_env_file_is_read_as_people_write_them(tmp_path):
    (tmp_path / "e").write_text(
        '\ufeff# comment\n\nA=1\n export B = two words # note\nC=\'$x # \\n\'\nD="a\\n\\"b\\"\\\\" # n\n'
        "E=\nF=a#b\nG=${A} {port}\r\n",
        encoding="utf-8",
        newline="",
    )
    env = one(tmp_path, "{command: [x], env_file: e}").env
    assert {name: env[name] for name in "ABCDEFG"} == {
        "A": "1",
        "B": "two words",
        "C": "$x # \\n",
        "D": 'a\n"b"\\',
        "E": "",
        "F": "a#b",
        "G": "${A} {port}",
    }


def test_a_wrong_line_of_an_env_file_is_named_in_that_file(tmp_path):
    (tmp_path / "e").write_text("A=1\n  no equals\nB='open\n9=x\n")
    found = problems(tmp_path, "services:\n  a: {command: [x], env_file: e}\n")
    assert [(p.file, p.line, p.column) for p in found] == [
        (str(tmp_path / "e"), 2, 3),
        (str(tmp_path / "e"), 3, 1),
        (str(tmp_path / "e"), 4, 1),
    ]


def test_an_env_file_that_cannot_be_read_is_named(tmp_path):
    line, column, message = refused_one(tmp_path, "services:\n  a: {command: [x], env_file: e}\n")
    assert (line, column) == (2, 31)
    assert message == f"services.a.env_file: cannot read {tmp_path}/e: No such file or directory"


def test_as_root_a_service_without_user_is_noted(tmp_path):
    text = (
        "services:\n  a: {command: [x]}\n  b: {command: [x], user: anna}\n  c: {driver: observed}\n"
    )
    notes = accepted(tmp_path, text, is_root=True).notes
    assert [(n.line, n.column, n.where) for n in notes] == [(2, 3, "services.a")]
    assert accepted(tmp_path, text).notes == ()


def test_what_has_no_effect_yet_is_noted_at_its_key(tmp_path):
    text = (
        "web: {port: 1}\nservices:\n"
        "  a: {command: [x], gpu: {memory: 1GiB}, activation: on-demand, metrics: /m}\n"
        "  b: {driver: docker, docker: {image: i}}\n"
        "  c: {command: [x], activation: manual, checks: {k: {kafka: 'h:1'}, t: {tcp: 'h:2'}}}\n"
    )
    notes = accepted(tmp_path, text).notes
    assert [(n.line, n.column, n.where) for n in notes] == [
        (3, 42, "services.a.activation"),
        (3, 65, "services.a.metrics"),
        (4, 7, "services.b.driver"),
        (5, 54, "services.c.checks.k.kafka"),
    ]
    assert all(note.message and note.hint for note in notes)
