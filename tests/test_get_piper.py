"""scripts/get-piper: the door to `lictor install piper` that takes a folder."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from tests.support.installed import services_folder

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "get-piper"


def call(*args: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *args],
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_it_takes_one_folder():
    for args in ((), ("a", "b"), ("--help",)):
        done = call(*args)
        assert (done.returncode, done.stdout) == (2, "")
        assert "usage:" in done.stderr


def test_a_python_that_makes_no_environments_is_named(tmp_path):
    done = call(tmp_path / "new", PYTHON="/bin/false")
    assert (done.returncode, done.stdout) == (1, "")
    assert "/bin/false cannot make a virtual environment" in done.stderr


def test_a_real_installation_is_found_quickly():
    folder = services_folder("piper")
    began = time.monotonic()
    found = call(folder)
    assert found.returncode == 0, found.stderr
    assert Path(found.stdout.strip()).stat().st_size > 10_000_000
    assert time.monotonic() - began < 10
