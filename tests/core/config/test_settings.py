"""The agent's own sections, and the environment that completes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lictor.core.config.settings import AgentSettings, ConsulSettings, TlsSettings, WebSettings
from tests.core.config.support import accepted, problems, refused_one


def test_an_empty_config_has_all_defaults(tmp_path):
    config = accepted(tmp_path, "")
    assert config.agent == AgentSettings(data_dir=Path("/home/anna/.local/state/lictor"))
    assert config.consul == ConsulSettings()
    assert config.web == WebSettings(host="127.0.0.1", port=7031, enabled=True)
    assert config.path == tmp_path / "config.yml"


def test_the_agents_section_is_read(tmp_path):
    config = accepted(
        tmp_path,
        "agent: {node: My_Host, mode: cloud, advertise: 10.0.0.1, data_dir: d, on_term: keep,"
        " port_range: 30000 - 30001, socket_group: ops}\n",
    )
    assert config.agent == AgentSettings(
        data_dir=tmp_path / "d",
        node="my-host",
        mode="cloud",
        advertise="10.0.0.1",
        on_term="keep",
        port_range=(30000, 30001),
        socket_group="ops",
    )


def test_the_data_dir_is_the_callers_then_the_environments_then_the_files(tmp_path):
    text = "agent: {data_dir: /file}\n"
    env = {"LICTOR_DATA_DIR": "/env"}
    assert accepted(tmp_path, text).agent.data_dir == Path("/file")
    assert accepted(tmp_path, text, env).agent.data_dir == Path("/env")
    chosen = accepted(tmp_path, text, env, data_dir=Path("/caller"))
    assert chosen.agent.data_dir == Path("/caller")


@pytest.mark.parametrize(
    ("env", "root", "expected"),
    [
        ({}, True, "/var/lib/lictor"),
        ({"XDG_STATE_HOME": "/s"}, False, "/s/lictor"),
        ({"XDG_STATE_HOME": "relative"}, False, "/home/anna/.local/state/lictor"),
        ({}, False, "/home/anna/.local/state/lictor"),
    ],
)
def test_the_default_data_dir_follows_xdg_but_for_root(tmp_path, env, root, expected):
    assert accepted(tmp_path, "", env, is_root=root).agent.data_dir == Path(expected)


CONSUL_ENV = {
    "CONSUL_HTTP_ADDR": "10.0.0.9:8501",
    "CONSUL_HTTP_SSL": "true",
    "CONSUL_HTTP_SSL_VERIFY": "false",
    "CONSUL_HTTP_TOKEN": "env-token",
    "CONSUL_CACERT": "/ca.pem",
    "CONSUL_CLIENT_CERT": "/c.pem",
    "CONSUL_CLIENT_KEY": "/k.pem",
    "CONSUL_TLS_SERVER_NAME": "server.dc1.consul",
}


def test_consul_is_found_through_the_environment(tmp_path):
    assert accepted(tmp_path, "", CONSUL_ENV).consul == ConsulSettings(
        address="https://10.0.0.9:8501",
        token="env-token",
        ca_file=Path("/ca.pem"),
        client_cert=Path("/c.pem"),
        client_key=Path("/k.pem"),
        tls_server_name="server.dc1.consul",
        verify=False,
    )


def test_what_the_file_says_about_consul_beats_the_environment(tmp_path):
    config = accepted(
        tmp_path,
        "consul: {address: http://localhost, token_file: t, ca_file: ca, verify: true,"
        " client_cert: c, client_key: k, tls_server_name: n, datacenter: dc2, embedded: never,"
        " kv_prefix: /a/b/, kv_restore: never}\n",
        CONSUL_ENV,
    )
    assert config.consul == ConsulSettings(
        address="http://localhost:8500",
        token=None,
        token_file=tmp_path / "t",
        ca_file=tmp_path / "ca",
        client_cert=tmp_path / "c",
        client_key=tmp_path / "k",
        tls_server_name="n",
        verify=True,
        datacenter="dc2",
        embedded="never",
        kv_prefix="a/b",
        kv_restore="never",
    )


def test_a_token_file_of_the_environment_beats_its_token(tmp_path):
    consul = accepted(tmp_path, "", CONSUL_ENV | {"CONSUL_HTTP_TOKEN_FILE": "/t"}).consul
    assert (consul.token, consul.token_file) == (None, Path("/t"))


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("127.0.0.1:8500", "http://127.0.0.1:8500"),
        ("consul.example.org", "http://consul.example.org:8500"),
        ("https://consul.example.org/", "https://consul.example.org:443"),
        ("'http://[::1]:8500'", "http://[::1]:8500"),
        ("unix:///run/consul.sock", "unix:///run/consul.sock"),
    ],
)
def test_an_address_of_consul_becomes_a_url(tmp_path, written, url):
    assert accepted(tmp_path, f"consul: {{address: {written}}}\n").consul.address == url


@pytest.mark.parametrize(
    "written",
    ["http://me:s3cret@h:1", "ftp://h", "http://h:99999", "http://h/v1", "unix://x", "a b"],
)
def test_what_is_no_address_of_consul_is_refused(tmp_path, written):
    line, column, message = refused_one(tmp_path, f"consul: {{address: '{written}'}}\n")
    assert (line, column) == (1, 19)
    assert "expected an address such as" in message
    assert "s3cret" not in message
    (problem,) = problems(tmp_path, "", {"CONSUL_HTTP_ADDR": written})
    assert (problem.file, problem.line) == ("$CONSUL_HTTP_ADDR", 0)


def test_a_wrong_switch_of_the_environment_is_named(tmp_path):
    (problem,) = problems(tmp_path, "", {"CONSUL_HTTP_SSL_VERIFY": "maybe"})
    assert str(problem) == "$CONSUL_HTTP_SSL_VERIFY: expected true or false, got 'maybe'"


def test_the_token_never_shows_in_the_repr(tmp_path):
    assert "env-token" not in repr(accepted(tmp_path, "", CONSUL_ENV))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_token_in_a_file_that_others_may_read_is_pointed_out(tmp_path, mode):
    text = "consul: {token: abc}\n"
    assert accepted(tmp_path, text).notes == ()
    from lictor.core.config.load import load
    from tests.core.config.support import context

    (tmp_path / "config.yml").chmod(mode)
    (note,) = load(tmp_path / "config.yml", context()).notes
    assert (note.line, note.column, note.where) == (1, 17, "consul.token")


def test_the_web_section_is_read(tmp_path):
    config = accepted(
        tmp_path,
        "web: {enabled: false, host: '::', port: 0, tls: {cert: c, key: '{data_dir}/k'},"
        " base_path: /lictor/, cors_origins: [https://a.org/], allowed_hosts: [h],"
        " behind_proxy: yes}\n",
        data_dir=Path("/d"),
    )
    assert config.web == WebSettings(
        enabled=False,
        host="::",
        port=0,
        tls=TlsSettings(tmp_path / "c", Path("/d/k")),
        base_path="/lictor",
        cors_origins=("https://a.org",),
        allowed_hosts=("h",),
        behind_proxy=True,
    )
