"""`discover` and `resolve` where no agent runs and no config.yml is: the environment says all."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent import Result, wait_until
from tests.support.consul import ConsulServer

pytestmark = pytest.mark.consul


@pytest.fixture(scope="module")
def guarded(consul_bin: str) -> Iterator[ConsulServer]:
    """A Consul whose access control denies by default, with services of somebody."""
    server = ConsulServer(consul_bin, acl=True)
    try:
        server.start()
        bad = {"TTL": "24h", "Status": "critical"}
        for body in (
            {"Name": "seen", "Port": 1, "Tags": ["tts"]},
            {"Name": "dotted.name", "Port": 1},
            {"Name": "broken", "Port": 2, "Tags": ["tts"], "Check": bad},
        ):
            assert server.raw("PUT", "agent/service/register", body).status == 200
        wait_until(lambda: server.raw("GET", "health/service/seen").json, what="the catalog has it")
        yield server
    finally:
        server.close()


class Desk:
    """A folder without a config.yml, on a host without an agent."""

    def __init__(self, folder: Path, address: str) -> None:
        self._folder, self._address = folder, address

    def __call__(self, *args: str, **env: str) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "lictor", *args],
            env={
                "HOME": str(self._folder),
                "PATH": "",
                "LC_ALL": "C.UTF-8",
                "LICTOR_DATA_DIR": str(self._folder),
                "CONSUL_HTTP_ADDR": self._address,
                **env,
            },
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def desk(tmp_path: Path, guarded: ConsulServer) -> Desk:
    return Desk(tmp_path, guarded.http)


def names(result: Result) -> set[str]:
    assert result.code == 0, result
    rows: list[dict[str, Any]] = result.json
    return {row["service"] for row in rows}


def test_the_token_of_the_environment_is_used(desk: Desk, guarded: ConsulServer, tmp_path: Path):
    file = tmp_path / "token"
    file.write_text(f"{guarded.master}\n")
    for way in (
        {"CONSUL_HTTP_TOKEN": guarded.master},
        {"CONSUL_HTTP_TOKEN_FILE": str(file)},
    ):
        assert names(desk("discover", "-o", "json", **way)) >= {"consul", "seen"}
        assert desk("resolve", "seen", "-o", "json", **way).json[
            "left_out"
        ]  # DNS has no token here


@pytest.mark.parametrize("token", ["", "0b6dbb3f-0000-4000-8000-0000000000ff"])
@pytest.mark.parametrize("name", [(), ("seen",), ("nobody",)])
def test_who_may_see_nothing_is_told_so_and_not_that_there_is_nothing(
    desk: Desk, token: str, name: tuple[str, ...]
):
    said = desk("discover", *name, CONSUL_HTTP_TOKEN=token)
    assert (said.code, said.out) == (6, "")
    assert "token" in said.err


def test_a_rule_that_is_missing_is_named(desk: Desk, guarded: ConsulServer):
    token = guarded.token_for('service "seen" { policy = "read" }')
    said = desk("discover", "seen", CONSUL_HTTP_TOKEN=token)
    assert said.code == 6
    assert 'node_prefix "" { policy = "read" }' in said.err
    enough = guarded.token_for(
        'service "seen" { policy = "read" } node_prefix "" { policy = "read" }'
    )
    assert names(desk("discover", "seen", "-o", "json", CONSUL_HTTP_TOKEN=enough)) == {"seen"}
    assert desk("discover", "nobody", CONSUL_HTTP_TOKEN=guarded.master).code == 4


def test_a_tag_that_nobody_carries_is_told_as_such(desk: Desk, guarded: ConsulServer):
    token = {"CONSUL_HTTP_TOKEN": guarded.master}
    said = desk("discover", "seen", "--tag", "gpu", **token)
    assert said.code == 3
    assert "no instance of seen carries the tag gpu" in said.err
    assert desk("discover", "seen", "--tag", "gpu", "-o", "json", **token).json == []
    assert desk("discover", "nobody", "--tag", "gpu", **token).code == 4
    assert names(desk("discover", "seen", "--tag", "TTS", "-o", "json", **token)) == {"seen"}


@pytest.mark.parametrize("asked", ["broken", "broken.service.consul", "tts.broken.service.consul"])
def test_a_full_name_is_explained_like_the_name_alone(
    desk: Desk, guarded: ConsulServer, asked: str
):
    said = desk("resolve", asked, "-o", "json", CONSUL_HTTP_TOKEN=guarded.master)
    assert said.code == 3
    assert said.json["question"] == (asked if "." in asked else f"{asked}.service.consul")
    (one,) = said.json["left_out"]
    assert one["reasons"][0]["code"] == "left_out.critical"


@pytest.mark.parametrize(
    ("asked", "code", "reason"),
    [
        (["cpu.broken.service.consul"], 3, "left_out.tag"),
        (["dotted.name"], 3, "left_out.unsafe"),
        (["seen", "--query"], 3, "left_out.query"),
        (["nobody.service.consul"], 4, None),
    ],
)
def test_why_a_name_has_no_answer_is_true(
    desk: Desk, guarded: ConsulServer, asked: list[str], code: int, reason: str | None
):
    said = desk("resolve", *asked, "-o", "json", CONSUL_HTTP_TOKEN=guarded.master)
    assert said.code == code, said
    codes = [one["reasons"][0]["code"] for one in said.json["left_out"]]
    assert codes == ([reason] if reason else [])


@pytest.mark.parametrize(
    "asked",
    [
        ["resolve", ""],
        ["resolve", "a..b"],
        ["resolve", "x" * 64],
        ["resolve", "seen", "--tag", "x" * 64],
        ["resolve", "seen", "--tag", "a..b"],
        ["resolve", "seen.service.consul", "--tag", "cpu"],
        ["discover", ""],
    ],
)
def test_what_cannot_be_asked_is_a_mistake_and_not_consuls_absence(
    desk: Desk, guarded: ConsulServer, asked: list[str]
):
    assert desk(*asked, CONSUL_HTTP_TOKEN=guarded.master).code == 2


def test_a_name_that_dns_cannot_carry_is_told_where_all_are_listed(
    desk: Desk, guarded: ConsulServer
):
    said = desk("discover", "dotted.name", "-o", "json", CONSUL_HTTP_TOKEN=guarded.master)
    (row,) = said.json
    assert (row["left_out"], row["reason"]) == (True, "left_out.unsafe")
