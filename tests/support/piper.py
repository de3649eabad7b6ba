"""Where a real Piper for the tests is: installed with the other services, or named by the variable."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.installed import services_folder


def piper_folder() -> Path:
    """The data folder that has Piper and its voice; in CI it must be there."""
    named = os.environ.get("LICTOR_TEST_PIPER")
    if named and (Path(named) / "venvs" / "piper" / "bin" / "python").exists():
        return Path(named)
    return services_folder("piper")
