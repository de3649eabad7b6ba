"""The shipped template with the real Piper voice server: from config.yml to speech."""

from __future__ import annotations

import io
import json
import urllib.request
import wave

from tests.e2e.world import Catalog
from tests.support.agent import unique
from tests.support.children import free_port
from tests.support.piper import piper_folder


def test_a_real_voice_service_is_started_found_and_speaks(make_agent, consul):
    folder, port, node = piper_folder(), free_port(), unique("voice")
    agent = make_agent(
        {"piper": {"template": "piper", "port": port}}, consul=consul.http, node=node
    )
    agent.data_dir.mkdir(parents=True)
    for name in ("venvs", "voices"):
        (agent.data_dir / name).symlink_to(folder / name)
    agent.start()
    agent.wait_ready("piper", within=60)
    Catalog(consul).wait_passing("piper", agent.entry_id("piper"))

    found = agent.cli("discover", "piper", "-o", "json").json
    (one,) = [row for row in found if row["id"] == agent.entry_id("piper")]
    assert one["health"] == "passing"
    assert set(one["tags"]) == {"tts", "cpu"}

    resolved = agent.cli("resolve", "piper", "-o", "json").json
    assert {"address": one["address"], "port": port} in [
        {"address": answer["address"], "port": answer["port"]} for answer in resolved["answers"]
    ]

    request = urllib.request.Request(
        f"http://{one['address']}:{one['port']}/synthesize",
        data=json.dumps({"text": "Lictor started the voice service."}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        speech = answer.read()
    with wave.open(io.BytesIO(speech)) as sound:
        assert sound.getframerate() == 22050
        assert sound.getnframes() > 22050  # more than a second of it

    assert agent.row("piper")["memory_mb"] > 50
    assert agent.cli("health", "piper").code == 0
