"""What a reload changes, and what people are shown."""

from __future__ import annotations

import json

from lictor.core.config.diff import ConfigDiff, diff
from lictor.core.config.schema import json_schema
from lictor.core.config.show import as_plain, masked
from lictor.core.model.names import ServiceKey
from tests.core.config.support import accepted


def keys(*names: str) -> tuple[ServiceKey, ...]:
    return tuple(ServiceKey(name) for name in names)


def test_the_same_config_has_no_differences(tmp_path):
    text = "services:\n  a: {command: [x], port: 80}\n"
    assert not diff(accepted(tmp_path, text), accepted(tmp_path, "# moved\n" + text))


def test_a_reload_restarts_only_what_changed_at_its_start(tmp_path):
    old = accepted(
        tmp_path,
        "services:\n  gone: {command: [x]}\n  same: {command: [x]}\n  argv: {command: [x]}\n"
        "  env: {command: [x]}\n  port: {command: [x], port: 80}\n  tags: {command: [x]}\n"
        "  health: {command: [x]}\n  limits: {command: [x]}\n",
    )
    new = accepted(
        tmp_path,
        "services:\n  new: {command: [x]}\n  tags: {command: [x], tags: [t]}\n  same: {command: [x]}\n"
        "  argv: {command: [x, y]}\n  env: {command: [x], env: {A: b}}\n"
        "  port: {command: [x], port: 81}\n  health: {command: [x], health: {http: 'http://h/'}}\n"
        "  limits: {command: [x], limits: {tasks: 3}}\n",
    )
    assert diff(old, new) == ConfigDiff(
        added=keys("new"),
        removed=keys("gone"),
        restart=keys("argv", "env", "port", "limits"),
        in_place=keys("tags", "health"),
    )


def test_settings_that_wait_for_the_agents_restart_are_named(tmp_path):
    old = accepted(tmp_path, "")
    new = accepted(
        tmp_path,
        "agent: {data_dir: /d, on_term: keep, port_range: 1-2, advertise: 10.0.0.1}\n"
        "consul: {address: http://h:1, token: t}\nweb: {port: 1}\n",
    )
    assert diff(old, new).agent_restart == (
        "agent.data_dir",
        "consul.address",
        "consul.token",
        "web.port",
    )


def test_what_is_shown_is_expanded_and_masked(tmp_path):
    config = accepted(
        tmp_path,
        "consul: {token: s3cret}\nservices:\n"
        '  a:\n    command: [x, "{port}", "{param.m}"]\n    port: 80\n'
        "    env: {HF_TOKEN: s3cret, db_password: s3cret, DB: 'postgres://me:s3cret@h/d', LANG: C}\n"
        "    params: {m: {default: v}, api_key: {default: s3cret}}\n"
        "    limits: {memory: 2GiB}\n    idle_timeout: 90s\n    umask: 022\n",
    )
    shown = as_plain(config)
    text = json.dumps(shown)
    assert "s3cret" not in text
    service = shown["services"]["a"]
    assert service["command"] == ["x", "80", "{param.m}"]
    assert service["env"]["DB"] == "postgres://me:***@h/d"
    assert service["env"]["LANG"] == "C"
    assert service["umask"] == "022"
    assert (service["limits"], service["idle_timeout"]) == ({"memory": "2GiB"}, "1m30s")
    assert service["health"]["tcp"] == "127.0.0.1:80"
    assert shown["agent"]["port_range"] == "20000-20999"


def test_a_value_is_masked_by_its_name():
    for name in ("HF_TOKEN", "apikey", "MY_SECRET", "DB_PASSWD", "Password", "AWS_CREDENTIALS"):
        assert masked(name, "v") == "***"
    assert masked("HOME", "/home/anna") == "/home/anna"


def test_the_json_schema_describes_every_key():
    schema = json_schema()
    definitions = schema["$defs"]
    text = json.dumps(schema)
    for name, definition in {"config": schema, **definitions}.items():
        assert definition["additionalProperties"] is False, name
        for key, value in definition["properties"].items():
            assert value.get("description"), f"{name}.{key}"
    for reference in set(_references(schema)):
        assert reference.removeprefix("#/$defs/") in definitions
    assert "register_" not in text
    assert set(schema["properties"]) == {"agent", "consul", "web", "services"}


def _references(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [ref for inner in value.values() for ref in _references(inner)]
    if isinstance(value, list):
        return [ref for inner in value for ref in _references(inner)]
    return []
