"""Where the real services of the tests are: `make test` installs them once into `.cache/services`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_PARTS = ("venvs", "voices", "models")


def services_folder(*names: str) -> Path:
    """The data folder that `lictor install` filled with these services; in CI it must be there."""
    folder = Path(os.environ.get("LICTOR_TEST_SERVICES") or _ROOT / ".cache" / "services")
    lacking = [n for n in names if not (folder / "venvs" / n / ".lictor-installed").exists()]
    if lacking:
        words = " ".join(names)
        reason = f"no {', '.join(lacking)}: LICTOR_DATA_DIR={folder} lictor install {words}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


def lend(folder: Path, data_dir: Path) -> None:
    """Let an agent with this data_dir use what is installed in `folder`."""
    data_dir.mkdir(parents=True, exist_ok=True)
    for name in _PARTS:
        if (folder / name).exists():
            (data_dir / name).symlink_to(folder / name)
