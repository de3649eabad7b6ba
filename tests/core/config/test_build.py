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


def test_a_protocol_is_asked_at_the_service_where_only_a_port_or_a_path_is_written(tmp_path):
    spec = one(
        tmp_path,
        "{command: [x], port: 5000, host: 0.0.0.0, health: {websocket: /ws},"
        " checks: {a: {redis: ':6379'}, b: {minio: 'h:9000'}, c: {websocket: 'wss://h/x?y=1'}}}",
    )
    assert spec.health.probe == ProbeSpec("websocket", "ws://127.0.0.1:5000/ws")
    assert spec.checks == {
        "a": ProbeSpec("redis", "127.0.0.1:6379"),
        "b": ProbeSpec("http", "http://h:9000/minio/health/live"),
        "c": ProbeSpec("websocket", "wss://h/x?y=1"),
    }


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ("{websocket: 'http://h/'}", "expected a URL such as ws://127.0.0.1:2700/"),
        ("{websocket: 'ws://u:p@h/'}", "a user name or password"),
        ("{kafka: 'h'}", "expected host:port"),
        ("{redis: 'h:1', tcp: 'h:1'}", "tcp and redis are both given"),
    ],
)
def test_a_protocol_asked_in_a_wrong_form_is_refused(tmp_path, check, words):
    (_, _, said) = refused_one(
        tmp_path, f"services:\n  a: {{command: [x], checks: {{c: {check}}}}}\n"
    )
    assert words in said


def test_what_has_no_effect_yet_is_noted_at_its_key(tmp_path):
    text = (
        "web: {port: 1}\nservices:\n"
        "  a: {command: [x], gpu: {memory: 1GiB}, activation: on-demand, metrics: /m}\n"
        "  b: {driver: docker, docker: {image: i}}\n"
    )
    notes = accepted(tmp_path, text).notes
    assert [(n.line, n.column, n.where) for n in notes] == [
        (3, 42, "services.a.activation"),
    ]
    assert all(note.message and note.hint for note in notes)


def test_a_container_may_have_arguments_of_its_own_with_parameters_and_auto_needs_both(tmp_path):
    spec = one(
        tmp_path,
        '{driver: auto, command: [vllm, serve, "{param.m}"], port: 1,\n'
        '    docker: {image: i, init: false, command: [--model, "{param.m}"]},\n'
        "    params: {m: {default: a/b}}}",
    )
    assert (spec.driver, spec.argv()) == ("auto", ("vllm", "serve", "a/b"))
    assert spec.container_argv() == ("--model", "a/b")
    assert spec.docker == ContainerSpec("i", init=False)
    for half in ("command: [x]", "docker: {image: i}"):
        assert (
            "is missing" in refused_one(tmp_path, f"services:\n  a: {{driver: auto, {half}}}\n")[2]
        )


@pytest.mark.parametrize("docker", ["ports: [x]", "volumes: [a]", "name: '-x'"])
def test_what_an_engine_would_refuse_is_refused_at_its_place(tmp_path, docker):
    text = f"services:\n  a: {{driver: docker, docker: {{image: i, {docker}}}}}\n"
    line, _, message = refused_one(tmp_path, text)
    assert line == 2
    assert message.startswith(f"services.a.docker.{docker.partition(':')[0]}")
