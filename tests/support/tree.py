"""The project's own files, and a copy of them that a test may write into."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: What never belongs to the project, for a tree without git (a release archive).
_NOT_OURS = {"build", "dist", "node_modules", "__pycache__"}


@cache
def project_files() -> tuple[Path, ...]:
    """Every file and link of the project, relative to `ROOT`: what git tracks or would track.

    Links to folders are listed as links and never followed.
    """
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        ).stdout
        names = [Path(name) for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        names = list(_walk(ROOT))
    return tuple(sorted({p for p in names if (ROOT / p).is_symlink() or (ROOT / p).is_file()}))


def _walk(folder: Path):
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            hidden = path.name.startswith(".") and path.name != ".ci"
            if not hidden and path.name not in _NOT_OURS and path.suffix != ".egg-info":
                yield from _walk(path)
        else:
            yield path.relative_to(ROOT)


def copy_project(target: Path) -> Path:
    """Copy the project's files to `target`, links as links."""
    for path in project_files():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, target / path, follow_symlinks=False)
    return target
