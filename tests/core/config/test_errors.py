"""What is wrong is said at its place, with what was expected and what may have been meant."""

from __future__ import annotations

import os

import pytest

from lictor.core.config.load import find, load
from lictor.core.errors import ConfigError
from tests.core.config.support import accepted, context, problems, refused, refused_one, write

A = "services:\n  a:\n    command: [x]\n"


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("agnt: {}\n", 1, 1, ": unknown key `agnt` (did you mean `agent`?)"),
        (A + "    helth: {}\n", 4, 5, "services.a: unknown key `helth` (did you mean `health`?)"),
        (
            A + "    health: {http: /, startp: 1}\n    port: 80\n",
            4,
            23,
            "services.a.health: unknown key `startp` (did you mean `startup`?)",
        ),
        (
            A + "    stop:\n      timeout: ten\n",
            5,
            16,
            "services.a.stop.timeout: expected a duration such as 10s, 5m or 1h30m, got 'ten'",
        ),
        (
            A + "    log: {max_size: 6G}\n",
            4,
            21,
            "services.a.log.max_size: expected a size such as 6GiB or 500MB, got '6G'",
        ),
        (A + "    port: x\n", 4, 11, "services.a.port: expected a whole number, got 'x'"),
        (A + "    port: 70000\n", 4, 11, "services.a.port: expected at most 65535, got '70000'"),
        (A + "    port: 0\n", 4, 11, "services.a.port: expected at least 1, got '0'"),
        (
            A + "    optional: perhaps\n",
            4,
            15,
            "services.a.optional: expected true or false, got 'perhaps'",
        ),
        (A + "    tags: web\n", 4, 11, "services.a.tags: expected a list, got 'web'"),
        (
            A + "    env: [A]\n",
            4,
            10,
            "services.a.env: expected a mapping (key: value), got a list",
        ),
        (A + "    env: {K: }\n", 4, 14, "services.a.env.K: expected text, got nothing"),
        (
            A + "    driver: proces\n",
            4,
            13,
            (
                "services.a.driver: expected one of process, docker, observed, auto; got 'proces'"
                " (did you mean `process`?)"
            ),
        ),
        (
            A + "    health: {interval: 100ms}\n",
            4,
            24,
            "services.a.health.interval: interval must be at least 1s",
        ),
        (
            A + "    health: {http: http://h:1/, tcp: h:1}\n",
            4,
            13,
            "services.a.health: http and tcp are both given (keep exactly one)",
        ),
        (
            A + "    checks: {db: {interval: 5s}}\n",
            4,
            18,
            "services.a.checks.db: it does not say what to ask (give one of http, tcp, command)",
        ),
        (
            A + "    health: {http: /up}\n",
            4,
            20,
            "services.a.health.http: a path alone needs the service's `port`",
        ),
        (A + "    user: a b\n", 4, 11, "services.a.user: expected a user, or user:group"),
        (
            A + "    stop: {signal: FOO}\n",
            4,
            20,
            "services.a.stop.signal: expected a signal such as TERM or INT, got 'FOO'",
        ),
        (
            A + "    tags: [Foo_Bar]\n",
            4,
            12,
            (
                "services.a.tags[0]: the tag 'Foo_Bar' is no DNS label, so DNS could not find it"
                " (write foo-bar)"
            ),
        ),
        (
            A + "    env: {A-B: x}\n",
            4,
            11,
            "services.a.env.A-B: 'A-B' cannot be the name of an environment variable",
        ),
        (
            A + "    host: http://x\n",
            4,
            11,
            (
                "services.a.host: expected an IP address or a host name, got 'http://x'"
                " (a port goes into `port`)"
            ),
        ),
        (
            "services:\n  a: {}\n",
            2,
            3,
            "services.a: `command` is missing (or write driver: observed)",
        ),
        (
            "services:\n  a: {driver: docker, docker: {network: host}}\n",
            2,
            31,
            "services.a.docker: `docker.image` is missing",
        ),
        (
            "services:\n  a: {docker: {image: x}}\n",
            2,
            3,
            "services.a: `docker` is given, but the driver is process (write driver: docker)",
        ),
        (
            "services:\n  a: {command: python -m 'my app'}\n",
            2,
            16,
            (
                "services.a.command: expected a list of words (no shell is used), got one text"
                ' (write [python, -m, "my app"])'
            ),
        ),
        (
            "services:\n  a: {command: []}\n",
            2,
            16,
            "services.a.command: a command needs at least the program's name",
        ),
        ("services: [a]\n", 1, 11, "services: expected services by name, got a list"),
        ("services: {a: 3}\n", 1, 15, "services.a: expected a mapping (key: value), got text"),
        ("web: 3\n", 1, 6, "web: expected a mapping (key: value), got text"),
        ("- a\n", 1, 1, ": expected the sections agent, consul, web, services, got a list"),
        (
            "agent: {port_range: 9-1}\n",
            1,
            21,
            "agent.port_range: expected a range of ports such as 20000-20999, got '9-1'",
        ),
        (
            "consul: {token: a, token_file: b}\n",
            1,
            1,
            "consul: `token` and `token_file` are both given (keep one of them)",
        ),
        ("web: {tls: {cert: a}}\n", 1, 7, "web.tls: `key` is missing"),
        (
            "web:\n  host: 0.0.0.0\n",
            2,
            9,
            (
                "web.host: '0.0.0.0' is open to other machines, and without tls passwords can be"
                " read there (add web.tls, or keep 127.0.0.1 and put a proxy with https in front"
                " (web.behind_proxy))"
            ),
        ),
        (
            "web: {cors_origins: ['*']}\n",
            1,
            22,
            (
                "web.cors_origins[0]: every page of the web would be let in"
                " (name the origins one by one)"
            ),
        ),
        (
            A + "    health: {http: '/health?api_key=hunter2'}\n    port: 80\n",
            4,
            20,
            (
                "services.a.health.http: a URL with a credential in its query would be shown to"
                " everybody by Consul"
            ),
        ),
        (
            A + "    meta: {db_password: x}\n",
            4,
            25,
            (
                "services.a.meta.db_password: whoever can reach Consul reads it: secrets do not"
                " belong into meta"
            ),
        ),
    ],
)
def test_a_wrong_key_or_value_is_named_at_its_place(tmp_path, text, line, column, message):
    assert refused_one(tmp_path, text) == (line, column, message)


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("a: [\n", 2, 1, ": not valid YAML: did not find expected node content"),
        (
            "services:\n\ta: 1\n",
            2,
            1,
            (
                ": not valid YAML: found character that cannot start any token"
                " (indent with spaces, not tabs)"
            ),
        ),
        (
            "services: {a: {command: [{port}/x]}}\n",
            1,
            32,
            (
                ": not valid YAML: did not find expected ',' or ']'"
                ' (text that begins with { must stand in quotes: "{port}")'
            ),
        ),
        (
            "web:\n  port: 1\n  host: h\n  port: 2\n",
            4,
            3,
            "port: `port` is given twice (first on line 2)",
        ),
        (
            "web: {host: ${H:-x}}\n",
            1,
            14,
            (
                ": not valid YAML: did not find expected ',' or '}'"
                ' (between { } or [ ], text with ${...} must stand in quotes: "${NAME}")'
            ),
        ),
        (
            "web: {}\n---\nweb: {}\n",
            2,
            1,
            ": a second YAML document; one file holds one configuration",
        ),
        ("web: {host: *who}\n", 1, 13, ": the alias *who stands for nothing defined before"),
        ("web: {? [a] : b}\n", 1, 9, ": a list cannot be a key"),
        (
            "web: {host: !!python/object:os.system x}\n",
            1,
            13,
            ": the YAML tag tag:yaml.org,2002:python/object:os.system is not allowed here",
        ),
        ('web: {host: "a\\0b"}\n', 1, 13, ": a NUL character is not allowed"),
        ("web: \x01\n", 1, 6, ": a character that YAML does not allow"),
        ("[" * 100_000, 1, 33, ": nested deeper than 32 levels"),
    ],
)
def test_a_text_that_is_no_good_yaml_is_refused_at_its_place(tmp_path, text, line, column, message):
    assert (line, column, message) in refused(tmp_path, text)


def test_an_unquoted_placeholder_is_explained(tmp_path):
    found = refused_one(tmp_path, "services: {a: {command: [x, {port}]}}\n")
    assert found[:2] == (1, 29)
    assert 'must stand in quotes: "{port}"' in found[2]


def test_all_problems_are_listed_in_the_order_of_the_file(tmp_path):
    text = (
        "agnt: {}\nweb: {port: x}\nconsul: {adress: y, address: http://a@b}\nservices:\n"
        "  a: {command: [x], helth: 1, depends_on: [nobody], port: y}\n"
        "  b: {command: [x, '{foo}'], tags: [A]}\n"
    )
    assert [(p.line, p.column) for p in problems(tmp_path, text)] == [
        (1, 1),
        (2, 13),
        (3, 10),
        (3, 30),
        (5, 21),
        (5, 44),
        (5, 59),
        (6, 20),
        (6, 37),
    ]


def test_an_alias_bomb_is_refused_before_it_grows(tmp_path):
    rows = ["x0: &x0 [y,y,y,y,y,y,y,y,y,y]"]
    rows += [f"x{i}: &x{i} [{','.join([f'*x{i - 1}'] * 10)}]" for i in range(1, 12)]
    (_, _, message) = refused(tmp_path, "\n".join(rows))[0]
    assert message == ": more than 200000 values, aliases included"


def test_anchors_and_merge_keys_work_and_the_explicit_key_wins(tmp_path):
    config = accepted(
        tmp_path,
        "services:\n  a: &a {command: [x], host: 127.0.0.2, port: 1}\n"
        "  b: {<<: *a, port: 2}\n  c: {<<: [{port: 3}, *a]}\n",
    )
    assert [(s.host, s.port) for s in config.services.values()] == [
        ("127.0.0.2", 1),
        ("127.0.0.2", 2),
        ("127.0.0.2", 3),
    ]


@pytest.mark.parametrize(
    "url",
    ["http://me:s3cret@127.0.0.1/", "http://s3cret@127.0.0.1:5/x", "https://:s3cret@h/"],
)
def test_credentials_in_a_health_url_are_refused_and_not_repeated(tmp_path, url):
    line, column, message = refused_one(tmp_path, A + f"    health: {{http: '{url}'}}\n")
    assert (line, column) == (4, 20)
    assert "user name or password" in message
    assert "s3cret" not in message


def test_values_of_env_and_token_are_not_quoted_in_problems(tmp_path):
    text = A + "    env: {K: [s3cret]}\nconsul: {token: {s3cret: 1}}\n"
    assert all("s3cret" not in message for _, _, message in refused(tmp_path, text))


@pytest.mark.parametrize(
    ("services", "line", "column", "message"),
    [
        (
            "  a_b: {command: [x]}\n  A-B: {command: [x]}\n",
            3,
            3,
            "services.A-B: `A-B` and `a_b` are both `a-b` in DNS (rename one of them)",
        ),
        (
            "  ä: {command: [x]}\n",
            2,
            3,
            "services: 'ä' is not a DNS name: use letters a-z, digits and inner hyphens",
        ),
        (
            "  consul: {command: [x]}\n",
            2,
            3,
            "services.consul: the name `consul` is taken in Consul: it is Consul's own service",
        ),
        (
            "  a: {command: [x], depends_on: [b, rediss]}\n  redis: {command: [x]}\n  b: {command: [x]}\n",
            2,
            37,
            "services.a.depends_on.rediss: there is no service `rediss` (did you mean `redis`?)",
        ),
        (
            (
                "  a: {command: [x], depends_on: {My_B: {required: false}}}\n"
                "  my-b: {command: [x], depends_on: [c]}\n  c: {command: [x], depends_on: [a]}\n"
            ),
            2,
            40,
            (
                "services.a.depends_on.My_B: these services wait for each other: a -> my-b -> c -> a"
                " (take one of the arrows out)"
            ),
        ),
        (
            "  a: {command: [x], depends_on: [a]}\n",
            2,
            34,
            (
                "services.a.depends_on.a: these services wait for each other: a -> a"
                " (take one of the arrows out)"
            ),
        ),
        (
            "  a: {command: [x], group: b}\n  b: {command: [x]}\n",
            2,
            28,
            "services.a.group: `b` is the name of a service already; both become names in DNS",
        ),
        (
            "  a: {command: [x], port: 5000}\n  b: {command: [x], port: 5000, host: localhost}\n",
            3,
            27,
            "services.b.port: port 5000 on 127.0.0.1 is already that of `a`",
        ),
        (
            (
                "  a: {command: [x], port: 5000, host: 127.0.0.2}\n"
                "  b: {command: [x], port: 5000, host: 0.0.0.0}\n"
            ),
            3,
            27,
            "services.b.port: port 5000 on 0.0.0.0 is already that of `a`",
        ),
        (
            "  a: {command: [x], port: 7031}\n",
            2,
            27,
            (
                "services.a.port: port 7031 on 127.0.0.1 is already that of"
                " Lictor's own web server (web.port)"
            ),
        ),
        (
            "  a: {command: [x], meta: {'a b': c}}\n",
            2,
            35,
            "services.a.meta.a b: Consul takes keys of 1 to 128 letters, digits, `_` and `-`",
        ),
        (
            "  a: {command: [x], meta: {lictor-node: c}}\n",
            2,
            41,
            "services.a.meta.lictor-node: keys that begin with lictor- are reserved",
        ),
        (
            "  a: {command: [x], address: 0.0.0.0}\n",
            2,
            30,
            "services.a.address: nobody can connect to 0.0.0.0 (leave it out)",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path, services, line, column, message):
    assert refused_one(tmp_path, "services:\n" + services) == (line, column, message)


def test_meta_over_the_limits_of_consul_is_refused(tmp_path):
    many = ", ".join(f"k{i}: v" for i in range(53))
    assert "53 pairs" in refused_one(tmp_path, A + f"    meta: {{{many}}}\n")[2]
    long = "ж" * 257
    assert "this has 514" in refused_one(tmp_path, A + f"    meta: {{k: {long}}}\n")[2]


def test_services_that_cannot_meet_may_share_a_port(tmp_path):
    config = accepted(
        tmp_path,
        "services:\n"
        "  a: {command: [x], port: 5000}\n"
        "  other-host: {command: [x], port: 5000, host: 127.0.0.2}\n"
        "  by-hand: {command: [x], port: 5000, activation: manual}\n"
        "  far: {driver: observed, address: 10.0.0.5, port: 5000}\n"
        "  everywhere: {command: [x], port: 5001, host: 0.0.0.0}\n"
        "  far-too: {driver: observed, address: 10.0.0.5, port: 5001}\n"
        "  far-first: {driver: observed, address: 10.0.0.5, port: 5002}\n"
        "  everywhere-then: {command: [x], port: 5002, host: 0.0.0.0}\n",
    )
    assert len(config.services) == 8


def test_a_long_chain_of_dependencies_is_no_problem(tmp_path):
    rows = [f"  s{i}: {{command: [x], depends_on: [s{i + 1}]}}" for i in range(900)]
    config = accepted(tmp_path, "services:\n" + "\n".join(rows) + "\n  s900: {command: [x]}\n")
    assert len(config.services) == 901


def test_more_services_than_a_host_can_have_are_refused(tmp_path):
    rows = "\n".join(f"  s{i}: {{command: [x]}}" for i in range(1001))
    assert "at most 1000" in refused_one(tmp_path, "services:\n" + rows)[2]


def test_a_file_larger_than_a_mebibyte_is_refused(tmp_path):
    assert refused_one(tmp_path, "# " + "x" * 1024 * 1024)[2] == ": larger than 1024 KiB"


def test_a_file_that_is_not_utf_8_is_refused_at_the_byte(tmp_path):
    path = write(tmp_path, "")
    path.write_bytes("web: {}\n# é ".encode() + b"\xff\n")
    with pytest.raises(ConfigError) as caught:
        load(path, context())
    assert str(caught.value) == f"{path}:2:5: not UTF-8 text"


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for path in (tmp_path / "none.yml", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read") as caught:
            load(path, context())
        assert caught.value.problems[0].file == str(path)


def test_an_empty_file_is_a_config_without_services(tmp_path):
    assert accepted(tmp_path, "").services == {}
    assert accepted(tmp_path, "# nothing\nservices:\nweb:\n").services == {}


def test_as_root_a_config_that_others_may_write_is_refused(tmp_path):
    path = write(tmp_path, A)
    path.chmod(0o664)
    with pytest.raises(ConfigError, match="others may write this file"):
        load(path, context(is_root=True))
    assert load(path, context()).services
    path.chmod(0o644)
    assert load(path, context(is_root=True)).services


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_as_root_a_config_of_another_user_is_pointed_out(tmp_path):
    path = write(tmp_path, A)
    os.chown(path, 12345, -1)
    assert any("uid 12345 owns" in note.message for note in load(path, context(is_root=True)).notes)


def test_the_search_goes_from_the_named_file_to_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("config.yml", "b.yml", "c.yml"):
        (tmp_path / name).write_text("")
    assert str(find("b.yml", {"LICTOR_CONFIG": "c.yml"})) == "b.yml"
    assert str(find(None, {"LICTOR_CONFIG": "c.yml"})) == "c.yml"
    assert str(find(None, {})) == "config.yml"


def test_a_search_that_finds_nothing_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lictor.core.config.load.SYSTEM_CONFIG", tmp_path / "none.yml")
    with pytest.raises(ConfigError, match=r"\$LICTOR_CONFIG"):
        find(None, {})
    with pytest.raises(ConfigError, match=r"nope\.yml: no such file \(from -c\)"):
        find("nope.yml", {})
    with pytest.raises(ConfigError, match=r"no such file \(from \$LICTOR_CONFIG\)"):
        find(None, {"LICTOR_CONFIG": "/nope.yml"})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_loopback_needs_no_certificate(tmp_path, host):
    assert accepted(tmp_path, f"web: {{host: '{host}'}}\n").web.host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "lictor.example.org"])
def test_a_wide_bind_is_taken_with_a_certificate_only(tmp_path, host):
    assert problems(tmp_path, f"web: {{host: '{host}'}}\n")
    tls = "tls: {cert: c, key: k}"
    assert accepted(tmp_path, f"web: {{host: '{host}', {tls}}}\n").web.host == host


def test_no_credential_of_a_url_stands_in_the_problem(tmp_path):
    for url in ("http://a:hunter2@h/", "http://h/?token=hunter2", "/x?secret=hunter2&y=1"):
        text = A + f"    port: 1\n    health: {{http: '{url}'}}\n"
        (found,) = problems(tmp_path, text)
        assert "hunter2" not in str(found)
        assert found.line == 5
