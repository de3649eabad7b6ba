"""Starting fast is a feature: what a command may not import, and that tables alone need rich."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.cli.fake_agent import row

HEAVY = {
    "rich",
    "aiohttp",
    "pydantic",
    "yaml",
    "asyncio",
    "importlib.metadata",
    "psutil",
    "consul",
    "structlog",
    "fastapi",
    "dns",
    "logging",
    "ssl",
    "concurrent.futures",
    "lictor.core.runtime",
    "lictor.consul_integration",
    "lictor.web",
    "lictor.cli.wiring",
}

PROBE = """
import sys
from lictor.cli.main import run
code = run(sys.argv[1:])
print(*sorted(sys.modules), sep="\\n", file=sys.stderr)
sys.exit(code)
"""


def _modules(env: dict[str, str], *args: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *args],
        env=env,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(done.stderr.splitlines())


@pytest.mark.parametrize(
    "args",
    [["status", "-o", "json"], ["status"], ["start", "piper"], ["--help"], ["plan", "-o", "json"]],
    ids=" ".join,
)
def test_a_command_in_a_pipe_imports_nothing_heavy(agent, env, args):
    agent(status=[row("piper")], change=[], plan=[])
    assert _modules(env, *args) & HEAVY == set()


def test_version_imports_not_even_click(env):
    assert _modules(env, "--version") & (HEAVY | {"click", "json", "lictor.core"}) == set()


def test_a_command_imports_no_other_command(agent, env):
    agent(plan=[])
    loaded = {name for name in _modules(env, "plan") if name.endswith("_commands")}
    assert loaded == {"lictor.cli.agent_commands"}


@pytest.mark.parametrize(("args", "budget"), [(["--version"], 0.06), (["status"], 0.12)])
def test_the_fastest_of_several_starts_is_near_the_budget(agent, run, args, budget):
    """Four times the budget, best of five: a shared machine, but a heavy import would show."""
    agent(status=[row("piper")])
    times = []
    for _ in range(5):
        began = time.perf_counter()
        assert run(*args).returncode == 0
        times.append(time.perf_counter() - began)
    assert min(times) < budget * 4
