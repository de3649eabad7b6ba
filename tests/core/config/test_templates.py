"""Templates lie under a service's own keys."""

from __future__ import annotations

from pathlib import Path

from lictor.core.config.load import load
from lictor.core.config.services import template_names
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import HealthSpec, ProbeSpec
from tests.core.config.support import accepted, context, one, refused_one

ROOT = Path(__file__).parents[3]


def test_the_piper_template_is_a_whole_service(tmp_path):
    spec = one(tmp_path, "{template: piper}", data_dir=Path("/d"))
    assert spec.command == (
        "/d/venvs/piper/bin/python",
        *("-m", "piper.http_server", "-m", "/d/voices/en_US-joe-medium.onnx"),
        *("--host", "127.0.0.1", "--port", "5000"),
    )
    assert spec.health.probe is not None
    assert spec.health.probe.target == "http://127.0.0.1:5000/info"
    assert (spec.port, spec.tags, spec.meta["engine"]) == (5000, ("tts", "cpu"), "piper")


def test_keys_of_the_service_override_the_template_and_maps_are_merged(tmp_path):
    spec = one(
        tmp_path,
        "{template: piper, port: 5001, tags: [mine], meta: {voice: joe}, health: {startup: 5m}}",
    )
    assert (spec.port, spec.tags) == (5001, ("mine",))
    assert spec.meta == {"engine": "piper", "api": "/synthesize", "voice": "joe"}
    assert spec.health == HealthSpec(ProbeSpec("http", "http://127.0.0.1:5001/info"), 300.0)


def test_another_kind_of_health_check_replaces_that_of_the_template(tmp_path):
    health = one(tmp_path, '{template: piper, health: {tcp: "{host}:{port}"}}').health
    assert health == HealthSpec(ProbeSpec("tcp", "127.0.0.1:5000"), 60.0)
    assert one(tmp_path, "{template: piper, health: none}").health.probe is None


def test_an_empty_key_takes_that_of_the_template_away(tmp_path):
    spec = one(tmp_path, "{template: piper, meta: , description: }")
    assert (spec.meta, spec.description) == ({}, "")


def test_an_unknown_template_is_refused_with_those_that_exist(tmp_path):
    found = refused_one(tmp_path, "services:\n  a: {template: pipper}\n")
    names = ", ".join(template_names())
    assert found == (
        2,
        17,
        f"services.a.template: no template `pipper`; there are: {names} (did you mean `piper`?)",
    )


def test_a_wrong_key_beside_a_template_is_reported_in_the_config(tmp_path):
    found = refused_one(tmp_path, "services:\n  a: {template: piper, health: {starup: 5m}}\n")
    assert found[:2] == (2, 33)
    assert "did you mean `startup`?" in found[2]


def test_instances_of_a_template_share_what_they_do_not_override(tmp_path):
    config = accepted(
        tmp_path,
        "services:\n  p:\n    template: piper\n    instances: {a: {port: 5001}, b: {port: 5002}}\n",
    )
    assert [spec.health.probe.target for spec in config.services.values()] == [
        "http://127.0.0.1:5001/info",
        "http://127.0.0.1:5002/info",
    ]


def test_the_config_that_ships_is_accepted_without_remarks():
    config = load(ROOT / "config.yml", context(data_dir=Path("/d")))
    assert set(config.services) == {ServiceKey("hello"), ServiceKey("piper")}
    assert config.notes == ()
    hello = config.services[ServiceKey("hello")]
    assert (hello.cwd, hello.port) == (str(ROOT), 8095)
    assert (ROOT / hello.command[hello.command.index("--directory") + 1]).is_dir()


def test_the_examples_in_the_config_that_ships_are_right(tmp_path):
    """Every commented line of the form `# key` below the examples, uncommented."""
    _, _, tail = (ROOT / "config.yml").read_text().partition("# --- examples")
    lines = [line for line in tail.splitlines()[1:] if line.startswith("  # ")]
    body = [line.replace("  # ", "  ", 1) for line in lines]
    yaml = [line for line in body if line.startswith("    ") or line.rstrip().endswith(":")]
    (tmp_path / "bots").mkdir()
    (tmp_path / ".env").write_text("")
    config = accepted(tmp_path, "services:\n" + "\n".join(yaml) + "\n", data_dir=tmp_path)
    assert [str(key) for key in config.services] == ["redis", "vllm", "bot@anna", "bot@boris"]
