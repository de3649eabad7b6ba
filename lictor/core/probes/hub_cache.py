"""The models in a Hugging Face cache: which there are, what they take, and how one is removed.

The layout is the hub's own (`models--org--name/{blobs,refs,snapshots}`, huggingface_hub's guide
"Understand caching"). The folder belongs to whatever program filled it, so nothing in it is
believed: links are counted as links and never followed, a file with many names is counted once, and
a scan ends at a number of entries and says so. Removing is a rename and then a removal, so that
there is never half a model under its name. Everything here blocks on the disk: call it in a thread.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lictor.core.errors import OperationFailed, Refused
from lictor.core.model.reason import because
from lictor.core.model.spec import ServiceSpec
from lictor.core.worded import worded

MOST_ENTRIES = 100_000  # files and folders that one scan looks at
_MOST_MODELS = 1_000
_PREFIX = "models--"
_ASIDE = ".lictor-removed-"
_FOLDER = re.compile(r"models--[A-Za-z0-9_][A-Za-z0-9._-]*")
_ROOTS_HOME = "/root"  # whose home it is in nearly every image
_IN_CONTAINER = f"{_ROOTS_HOME}/.cache/huggingface/hub"


@dataclass(frozen=True, slots=True)
class CachedModel:
    """One model. `size` is bytes, each file once; `last_used` Unix seconds (its files' last reading).

    `complete`: no file is only half there, and there is a snapshot. `partial`: the scan ended before
    all was counted.
    """

    id: str
    size: int
    last_used: float | None
    complete: bool
    partial: bool = False


def hub_folder(spec: ServiceSpec) -> Path | None:
    """Where a service's models lie on this host, by its environment; None: not to be known.

    HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub, as the hub's own library has it.
    Of a container it is the folder of the host that is mounted there.
    """
    env = spec.environment()
    if spec.driver == "docker":
        return _mounted(spec, env)
    home = _home(spec, env)
    folder = env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE")
    if not folder and env.get("HF_HOME"):
        folder = f"{env['HF_HOME']}/hub"
    if not folder:
        base = env.get("XDG_CACHE_HOME") or (f"{home}/.cache" if home else "")
        if not base:
            return None
        folder = f"{base}/huggingface/hub"
    if folder.startswith("~/") and home:
        folder = home + folder[1:]
    return Path(spec.cwd) / folder


def _home(spec: ServiceSpec, env: Mapping[str, str]) -> str:
    """The home of who runs it: the agent's own HOME is handed on, but not to another user."""
    home = env.get("HOME", "")
    if spec.user and home == os.environ.get("HOME", ""):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(spec.user).pw_dir
    return home


def _mounted(spec: ServiceSpec, env: Mapping[str, str]) -> Path | None:
    inside = env.get("HF_HUB_CACHE") or (
        f"{env['HF_HOME']}/hub" if env.get("HF_HOME") else _IN_CONTAINER
    )
    best: tuple[str, str] | None = None
    for volume in spec.docker.volumes if spec.docker is not None else ():
        source, target = (*volume.split(":"), "")[:2]
        under = target and (inside == target or inside.startswith(target.rstrip("/") + "/"))
        if under and source.startswith("/") and (best is None or len(target) > len(best[1])):
            best = (source, target.rstrip("/"))
    if best is None:
        return None
    return Path(best[0] + inside[len(best[1]) :])


def folder_name(model: str) -> str:
    """The name of a model's folder; raises `Refused` for what could never be one."""
    name = _PREFIX + model.replace("/", "--")
    if model.count("/") > 1 or ".." in name or not _FOLDER.fullmatch(name):
        odd = because("model.bad_id", model=repr(model[:60])[1:-1])  # (shows what nobody could see)
        raise worded(Refused, odd, code="model.bad_id")
    return name


def scan(hub: Path) -> list[CachedModel]:
    """Every model in the cache, by id. A folder that is not there holds none."""
    room = MOST_ENTRIES
    found = []
    for folder in sorted(_models(hub))[:_MOST_MODELS]:
        weight = _weigh(hub / folder, room)
        room = max(0, room - weight.seen)
        found.append(
            CachedModel(
                id=folder.removeprefix(_PREFIX).replace("--", "/", 1),
                size=weight.size,
                last_used=weight.last_used,
                complete=weight.whole and _has_snapshot(hub / folder),
                partial=weight.cut,
            )
        )
    return found


def size_of(hub: Path, model: str) -> int:
    """The bytes of one model as far as they are there; 0 of none."""
    return _weigh(hub / folder_name(model), MOST_ENTRIES).size


def remove(hub: Path, model: str) -> int:
    """Remove a model from the cache; the bytes that are free now.

    Raises `Refused` for what is no model of this cache, and `OperationFailed` when the disk refuses;
    then it is there as it was, or (once it is renamed) out of the way and gone at the next call.
    """
    folder = hub / folder_name(model)
    sweep(hub)
    try:
        kind = folder.lstat().st_mode
    except OSError as error:
        absent = because("model.not_cached", model=model, folder=str(hub))
        raise worded(Refused, absent, code="model.not_cached") from error
    if not stat.S_ISDIR(kind):
        other = because("model.no_folder", folder=str(folder))
        raise worded(Refused, other, code="model.not_cached")
    freed = _weigh(folder, MOST_ENTRIES).size
    aside = hub / f"{_ASIDE}{secrets.token_hex(8)}"
    try:
        folder.rename(aside)
        # Looks at nothing through a link: it works on open folders (`avoids_symlink_attacks`).
        shutil.rmtree(aside)
        shutil.rmtree(hub / ".locks" / folder.name, ignore_errors=True)
    except OSError as error:
        stays = because("model.not_removed", model=model, why=error.strerror)
        raise worded(OperationFailed, stays) from error
    return freed


def sweep(hub: Path) -> None:
    """Finish what an agent that was killed had begun to remove."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(hub):
            if entry.name.startswith(_ASIDE) and entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)


def _models(hub: Path) -> Iterator[str]:
    with contextlib.suppress(OSError), os.scandir(hub) as entries:
        for entry in entries:
            if _FOLDER.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                yield entry.name


def _has_snapshot(folder: Path) -> bool:
    with contextlib.suppress(OSError), os.scandir(folder / "snapshots") as entries:
        return any(entry.is_dir(follow_symlinks=False) for entry in entries)
    return False


@dataclass(slots=True)
class _Weight:
    size: int = 0
    last_used: float | None = None
    whole: bool = True
    cut: bool = False
    seen: int = 0


def _weigh(folder: Path, room: int) -> _Weight:
    """What all plain files below take; links are no files, and are not followed."""
    weight = _Weight()
    counted: set[tuple[int, int]] = set()
    waiting = [str(folder)]
    if not folder.is_dir() or folder.is_symlink():
        return weight
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                weight.seen += 1
                if weight.seen > room:
                    weight.cut = True
                    return weight
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    _count(entry, weight, counted)
    return weight


def _count(entry: os.DirEntry[str], weight: _Weight, counted: set[tuple[int, int]]) -> None:
    with contextlib.suppress(OSError):
        about = entry.stat(follow_symlinks=False)
        if (about.st_dev, about.st_ino) in counted:
            return
        counted.add((about.st_dev, about.st_ino))
        weight.size += about.st_size
        weight.last_used = max(weight.last_used or 0.0, about.st_atime)
        if entry.name.endswith(".incomplete"):
            weight.whole = False
