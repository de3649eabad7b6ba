"""Where a real Piper for the tests is: `make test` installs it once into `.cache/piper`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]


def piper_folder() -> Path:
    """The data folder that scripts/get-piper filled; in CI it must be there."""
    folder = Path(os.environ.get("LICTOR_TEST_PIPER") or _ROOT / ".cache" / "piper")
    if not (folder / "venvs" / "piper" / "bin" / "python").exists():
        reason = "no Piper: run scripts/get-piper .cache/piper, or name one in LICTOR_TEST_PIPER"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder
