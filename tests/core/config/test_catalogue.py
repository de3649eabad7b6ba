"""The services that ship: each loads alone, is on loopback, has a port, a health check and words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lictor.core.config.catalogue import all_templates, entry_lines, template
from lictor.core.config.services import template_names, template_text
from lictor.core.config.settings import Config
from lictor.core.locales import LANGUAGES
from lictor.core.model.spec import ProbeSpec, ServiceSpec
from tests.core.config.support import accepted, context, refused, write

NAMES = template_names()
#: Programs of the owner, which serve no port.
WITHOUT_PORT = {"llm-worker", "telegram-bot", "whatsapp-bot"}
#: What the catalogue was asked to have.
EXPECTED = {
    *(
        "vllm",
        "vllm-process",
        "xtts",
        "openvoice",
        "piper",
        "vosk",
        "whisper",
        "ollama",
        "gpt-sovits",
    ),
    *("sensevoice", "redis", "xray", "orchestrator", "brain", "tts", "memory", "rag", "llm-worker"),
    *("telegram-bot", "whatsapp-bot", "llm"),
}


def config_of(folder: Path, name: str, env: dict[str, str] | None = None) -> Config:
    """The template alone, with what only its owner can bring."""
    (folder / ".env").write_text("KAFKA_GROUP_ID=x\n")
    more = ", instances: {main: {}}" if "{instance}" in template_text(name)[1] else ""
    text = f"services:\n  {name}: {{template: {name}{more}}}\n"
    return accepted(folder, text, env, data_dir=Path("/d"))


def spec_of(folder: Path, name: str, env: dict[str, str] | None = None) -> ServiceSpec:
    (spec,) = config_of(folder, name, env).services.values()
    return spec


def test_the_catalogue_is_whole():
    assert set(NAMES) == EXPECTED


@pytest.mark.parametrize("name", NAMES)
def test_what_the_catalogue_says_that_lictor_brings_is_what_install_finds(tmp_path, name):
    install = spec_of(tmp_path, name).install
    assert template(name).installs is bool(install.packages or install.no_deps or install.image)


@pytest.mark.parametrize("name", NAMES)
def test_a_template_alone_is_a_service_that_can_be_found_and_judged(tmp_path, name):
    spec = spec_of(tmp_path, name)
    assert spec.description
    assert spec.tags
    assert spec.host == "127.0.0.1"
    if name in WITHOUT_PORT:
        assert spec.health.probe is None
        assert spec.logs
    else:
        assert spec.port
        assert spec.health.probe is not None
        assert str(spec.port) in spec.health.probe.target
    assert "{" not in "".join(map(str, spec.command))


@pytest.mark.parametrize("name", NAMES)
def test_a_template_says_what_it_is_in_every_language(name):
    about = template(name).about
    assert set(about) == set(LANGUAGES)
    assert re.search("[а-яё]", about["ru"])
    assert re.search("[\u4e00-\u9fff]", about["zh"])
    head = template_text(name)[1].split("about:")[0]
    assert head.startswith("# ")
    assert len(head) > 100  # it is explained before it is declared


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_entry_that_would_be_written_loads(tmp_path, name, language):
    (tmp_path / ".env").write_text("")
    found = template(name)
    lines = entry_lines(found, "it", None, language, "a hint")
    text = "services:\n" + "\n".join(f"  {line}" for line in lines) + "\n"
    config = accepted(tmp_path, text, data_dir=Path("/d"))
    assert {key.name for key in config.services} == {"it"}


@pytest.mark.parametrize("name", NAMES)
def test_the_commented_lines_of_an_entry_load_as_well(tmp_path, name):
    """Every comment that is `# key: value`, uncommented; alternatives of one key one at a time."""
    (tmp_path / ".env").write_text("")
    kept: list[str] = []
    for line in template(name).entry.splitlines():
        if re.match(r"# [a-z_]+: \S", line):
            kept.append(line.removeprefix("# "))
        elif not line.startswith("#"):
            kept.append(line)
    body = "".join(f"    {line}\n" for line in kept)
    text = f"services:\n  it:\n    template: {name}\n{body}"
    assert accepted(tmp_path, text, data_dir=Path("/d")).services


@pytest.mark.parametrize("name", ["vllm", "vllm-process"])
def test_the_lora_lines_of_vllm_are_right(tmp_path, name):
    spec = spec_of(tmp_path, name)
    lora = re.findall(r"^ +# (- .+)$", template_text(name)[1], re.MULTILINE)
    assert lora[:2] == ["- --enable-lora", "- --lora-modules"]
    command = "".join(f"      {line}\n" for line in [f'- "{w}"' for w in ["x", "y"]] + lora)
    text = f"services:\n  v:\n    template: {name}\n    command:\n{command}"
    (loaded,) = accepted(tmp_path, text, data_dir=Path("/d")).services.values()
    assert loaded.command[2:4] == ("--enable-lora", "--lora-modules")
    assert loaded.port == spec.port


def test_vllm_reads_the_variables_that_users_know(tmp_path):
    spec = spec_of(tmp_path, "vllm")
    assert spec.port == 11434
    assert spec.docker.name == "ai-secretary-vllm"
    assert spec.docker.network == "ai-secretary"
    assert spec.docker.ports == ("127.0.0.1:11434:11434",)
    assert spec.gpu.devices == ("1",)
    assert spec.param("model") == "Qwen/Qwen2.5-7B-Instruct-AWQ"
    assert spec.driver == "auto"
    for argv in (spec.argv(), spec.container_argv()):
        assert argv[-2:] == ("--gpu-memory-utilization", "0.5")
    assert spec.gpu.utilization == 0.5
    env = {
        "VLLM_MODEL": "org/other",
        "VLLM_CONTAINER_NAME": "mine",
        "VLLM_GPU_ID": "0",
        "GPU_MEMORY_UTILIZATION": "0.8",
    }
    spec = spec_of(tmp_path, "vllm", env)
    assert (spec.docker.name, spec.gpu.devices) == ("mine", ("0",))
    assert spec.argv()[:3] == ("vllm", "serve", "org/other")
    assert spec.container_argv()[:2] == ("--model", "org/other")
    assert (spec.argv()[-1], spec.container_argv()[-1], spec.gpu.utilization) == ("0.8", "0.8", 0.8)


def test_a_model_of_vllm_is_an_id_and_never_an_option(tmp_path):
    for bad in ("--trust-remote-code", "../x/y", "a", "a/b/c"):
        (place,) = refused(
            tmp_path,
            f"services:\n  v: {{template: vllm, params: {{model: {{default: '{bad}'}}}}}}\n",
        )
        assert "params.model" in place[2]


def test_what_the_voices_ask_of_a_gpu(tmp_path):
    assert spec_of(tmp_path, "xtts").gpu.min_compute_capability == 7.0
    assert spec_of(tmp_path, "openvoice").gpu.min_compute_capability == 6.1
    assert spec_of(tmp_path, "piper").gpu is None


def test_the_worker_has_its_topic_its_logs_and_three_checks(tmp_path):
    spec = spec_of(tmp_path, "llm-worker")
    assert spec.before[0][:5] == (
        *("kafka-topics", "--create", "--if-not-exists", "--topic", "tasks_llm"),
    )
    assert spec.checks["kafka"] == ProbeSpec("kafka", "localhost:9092")
    assert spec.checks["minio"] == ProbeSpec("http", "http://localhost:9000/minio/health/live")
    assert spec.checks["postgres"] == ProbeSpec("postgres", "localhost:5444")
    assert [Path(log).name for log in spec.logs] == ["system.log", "errors.log"]
    assert spec.env["KAFKA_GROUP_ID"] == "x"


def test_a_bot_is_an_instance_with_its_own_log(tmp_path):
    (bot,) = config_of(tmp_path, "telegram-bot").services.values()
    assert str(bot.key) == "telegram-bot@main"
    assert [Path(log).name for log in bot.logs] == ["telegram_bot_main.log"]
    assert bot.environment()["BOT_INSTANCE_ID"] == "main"


def test_the_orchestrator_is_watched_and_never_run(tmp_path):
    spec = spec_of(tmp_path, "orchestrator")
    assert (spec.driver, spec.command, spec.port) == ("observed", (), 8002)
    assert spec.health.probe.target == "http://127.0.0.1:8002/health"
    assert spec_of(tmp_path, "orchestrator", {"ORCHESTRATOR_PORT": "8003"}).port == 8003


def test_brain_gives_up_as_its_older_definition_said(tmp_path):
    spec = spec_of(tmp_path, "brain")
    assert (spec.port, spec.restart.max_restarts, spec.restart.backoff) == (7030, 3, 5.0)
    assert spec.environment()["ASTRA_LOG_LEVEL"] == "INFO"


def test_vosk_is_ready_when_a_websocket_opens_and_consul_asks_its_port(tmp_path):
    spec = spec_of(tmp_path, "vosk")
    assert spec.health.probe.kind == "websocket"
    assert spec.health.probe.target == "ws://127.0.0.1:2700/"
    assert spec.checks["port"].kind == "tcp"


def test_vllm_and_ollama_on_one_port_are_remarked_upon(tmp_path):
    text = "services:\n  ollama: {template: ollama}\n  vllm: {template: vllm}\n"
    notes = [str(note) for note in accepted(tmp_path, text, data_dir=Path("/d")).notes]
    (found,) = [note for note in notes if "only one can run" in note]
    assert "port 11434 is also that of `ollama` (it is Ollama's usual port)" in found
    text = "services:\n  ollama: {template: ollama}\n  vllm: {template: vllm, port: 8000}\n"
    config = accepted(tmp_path, text, data_dir=Path("/d"))
    assert [note for note in config.notes if "only one" in note.message] == []


@pytest.mark.parametrize("name", ["piper", "whisper", "llm"])
def test_what_installs_itself_is_pinned_and_named_in_the_command(tmp_path, name):
    spec = spec_of(tmp_path, name)
    packages = (*spec.install.packages, *spec.install.no_deps)
    assert packages
    assert all("==" in package for package in packages)
    needed = spec.install.needed_by(spec.argv())
    assert needed[0].startswith(f"/d/venvs/{name}/bin/")
    assert len(needed) >= 2
    assert template(name).size


def test_a_replaced_command_needs_only_what_it_still_names(tmp_path):
    (spec,) = accepted(
        tmp_path,
        "services:\n  p: {template: piper, command: [say, '{port}']}\n",
        data_dir=Path("/d"),
    ).services.values()
    assert spec.install.needed_by(spec.argv()) == ()


def test_the_image_of_a_container_is_what_is_pulled(tmp_path):
    assert spec_of(tmp_path, "vosk").install.image == "alphacep/kaldi-ru:latest"


def test_wrong_words_in_install_are_refused_with_their_place(tmp_path):
    found = refused(
        tmp_path,
        "services:\n  a:\n    command: [x]\n    install:\n      packages: [piper-tts]\n"
        "      imports: ['os; import sys']\n      files:\n        - {to: x, resource: y}\n"
        "        - {to: /x, package: p, path: ../../etc/passwd}\n        - {to: /x}\n",
    )
    words = " ".join(text for _, _, text in found)
    assert [line for line, _, _ in found] == [5, 6, 8, 9, 10]
    assert "exact version" in words
    assert "name of a Python module" in words
    assert "absolute path" in words
    assert "without .." in words
    assert "does not say where the file comes from" in words


def test_templates_are_read_once_and_listed_by_name():
    names = [found.name for found in all_templates()]
    assert names == sorted(names)
    assert template("piper") is template("piper")
    with pytest.raises(KeyError):
        template("nothing")


def test_what_is_for_people_is_no_key_of_a_service(tmp_path):
    path = write(tmp_path, "services:\n  p: {template: piper, about: {en: x}}\n")
    from lictor.core.config.load import load
    from lictor.core.errors import ConfigError

    with pytest.raises(ConfigError, match="unknown key `about`"):
        load(path, context(data_dir=Path("/d")))
