"""The catalogue's own services, really run: text, language model, voice, recognition, text again.

Each is started from its template alone, found by `lictor discover`, and spoken to at the address that
was found. What the model says is spoken by Piper and written down again by Whisper.
"""

from __future__ import annotations

import json
import re
import urllib.request
import uuid

import pytest

from tests.e2e.world import Catalog
from tests.support.agent import unique, wait_until
from tests.support.children import free_port
from tests.support.installed import lend, services_folder

SPOKEN = ("llm", "piper", "whisper")


@pytest.fixture
def agent(make_agent, consul):
    folder = services_folder(*SPOKEN)
    often = {"interval": "1s"}
    services = {n: {"template": n, "port": free_port(), "health": often} for n in SPOKEN}
    agent = make_agent(services, consul=consul.http, node=unique("voice"))
    lend(folder, agent.data_dir)
    agent.start()
    for name in SPOKEN:
        agent.wait_ready(name, within=60)
    return agent


@pytest.fixture
def address(agent, consul):
    """The address of a service, as `lictor discover` gives it."""

    def found(name: str) -> str:
        Catalog(consul).wait_passing(name, agent.entry_id(name))
        rows = agent.cli("discover", name, "-o", "json").json
        (row,) = [row for row in rows if row["id"] == agent.entry_id(name)]
        return f"http://{row['address']}:{row['port']}"

    return found


def fetch(url: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
    request = urllib.request.Request(url, data=body, headers={"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def say(base: str, prompt: str) -> str:
    question = {
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": 24,
        "temperature": 0,
    }
    answer = json.loads(fetch(f"{base}/v1/chat/completions", json.dumps(question).encode()))
    return answer["choices"][0]["message"]["content"]


def transcribe(base: str, sound: bytes) -> str:
    line = uuid.uuid4().hex
    head = (
        f'--{line}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
        "Content-Type: audio/wav\r\n\r\n"
    )
    body = head.encode() + sound + f"\r\n--{line}--\r\n".encode()
    kind = f"multipart/form-data; boundary={line}"
    return json.loads(fetch(f"{base}/v1/audio/transcriptions", body, kind))["text"]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def test_a_sentence_goes_through_the_model_the_voice_and_the_recognition(agent, address):
    told = say(address("llm"), "Say hello in five words.")
    assert len(words(told)) >= 3
    sound = fetch(f"{address('piper')}/synthesize", json.dumps({"text": told}).encode())
    assert sound.startswith(b"RIFF")
    heard = transcribe(address("whisper"), sound)
    common = set(words(told)) & set(words(heard))
    assert len(common) * 2 >= len(set(words(told))), (told, heard)
    agent.wait_ready("whisper")  # it was silent while it worked, and nobody restarted it
    assert agent.row("whisper")["restarts"] == 0


def test_the_model_lists_itself_and_counts(address):
    base = address("llm")
    models = json.loads(fetch(f"{base}/v1/models"))
    assert "smollm2-135m" in json.dumps(models)
    assert b"llamacpp:" in fetch(f"{base}/metrics")


def test_what_is_not_installed_says_how_to_install_it(make_agent):
    agent = make_agent({name: {"template": name, "port": free_port()} for name in SPOKEN})
    agent.start()
    for name in SPOKEN:
        row = wait_until(
            lambda name=name: (
                row if (row := agent.row(name))["phase"] in {"backoff", "failed"} else None
            )
        )
        assert row["last_error"]
        shown = agent.cli("status", name, "-o", "json").out
        assert f"run `lictor install {name}`" in shown
