"""Where this agent may make cgroups of its own, found out once, with the reason where it may not.

A cgroup belongs to whoever made it: systemd allows others to write only in what it delegated
(systemd, "Control Group APIs and Delegation": one writer for each cgroup), and a container engine
expects the same. So the ground on which Lictor builds is its own cgroup if that was delegated
(`Delegate=yes` leaves the attribute `trusted.delegate` or `user.delegate`), its parent if that one
was (`DelegateSubgroup=`), and on a host without systemd the root of a hierarchy (or of a container's
cgroup namespace) or a cgroup that was given to the agent's user. All else is somebody else's.
This module reads and never writes.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from lictor.core.model.reason import Reason, because

#: What is said where there is no cgroup: how processes are found then.
WITHOUT = "group, session, mark"
#: The controllers behind `limits`, by the words of config.yml.
CONTROLLERS = {"memory": "memory", "cpu": "cpu", "tasks": "pids"}
# v1: any hierarchy remembers members; pids can also forbid new ones, and freezer may hold the
# agent itself if somebody froze the cgroup, so it is not among them.
_V1_MEMBERSHIP = ("pids", "name=systemd", "devices", "blkio")

_OCTAL = re.compile(r"\\([0-7]{3})")  # blanks and the like in the paths of proc(5)


class Mount(NamedTuple):
    """One mounted hierarchy. `root` is the part of it that is mounted (a container sees a part)."""

    point: Path
    root: str
    controllers: frozenset[str]
    unified: bool


@dataclass(frozen=True, slots=True)
class Ground:
    """What discovery found.

    `version` 2 or 1 says how membership is kept, 0 that there are no cgroups for us (`why`).
    `base` is the folder in which we make ours, `path` the same as /proc/PID/cgroup shows it, `home`
    the folder of the agent's own cgroup, `membership` the hierarchy (v2: empty). `limits` has the base
    folder of each controller that we may use.
    """

    version: int = 0
    hybrid: bool = False
    base: Path = Path("/")
    path: str = "/"
    home: Path = Path("/")
    limits: Mapping[str, Path] = field(default_factory=dict)
    membership: str = ""
    why: Reason | None = None

    @property
    def name(self) -> str:
        """What `lictor status --verbose` says."""
        if self.version == 2:
            return "cgroup v2 (hybrid)" if self.hybrid else "cgroup v2"
        return "cgroup v1" if self.version == 1 else WITHOUT


def mounts(mountinfo: str) -> list[Mount]:
    """Every cgroup hierarchy in a /proc/PID/mountinfo (proc(5))."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, super_options = after.partition(" ")
        if kind not in {"cgroup", "cgroup2"}:
            continue
        words = before.split(" ")
        options = frozenset(super_options.split(" ")[-1].split(","))
        point = Path(_OCTAL.sub(lambda found: chr(int(found[1], 8)), words[4]))
        found.append(Mount(point, words[3], options, kind == "cgroup2"))
    return found


def own_paths(cgroup: str) -> dict[str, str]:
    """Controller (v2: empty) to path, from a /proc/PID/cgroup (cgroups(7))."""
    found: dict[str, str] = {}
    for line in cgroup.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        found.update(dict.fromkeys(controllers.split(","), path))
    return found


def discover(*, membership: int | None = None) -> Ground:
    """Look at this host. `membership` 2 or 1 takes only that version, 0 takes none at all."""
    try:
        table = mounts(Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
        own = own_paths(Path("/proc/self/cgroup").read_text(encoding="utf-8"))
    except OSError:
        table, own = [], {}
    if membership == 0 or not table:
        return Ground(why=because("cgroup.none"))
    hosts = _Host(own, systemd=Path("/run/systemd/system").is_dir())
    return hosts.ground(table, membership)


@dataclass(frozen=True, slots=True)
class _Host:
    own: Mapping[str, str]
    systemd: bool

    def ground(self, table: list[Mount], membership: int | None) -> Ground:
        v1 = {name: mount for mount in table if not mount.unified for name in mount.controllers}
        unified = next((mount for mount in table if mount.unified), None)
        limits: dict[str, Path] = {}
        for controller in CONTROLLERS.values():
            base = self._base(v1[controller], controller) if controller in v1 else None
            if base is not None:
                limits[controller] = base
        # v1 first where both are: a child is born in it, v2 is entered milliseconds later.
        if membership != 2:
            for name in _V1_MEMBERSHIP:
                base = self._base(v1[name], name) if name in v1 else None
                if base is not None:
                    home = v1[name].point / self._below(v1[name], name)
                    hybrid = unified is not None
                    path = self._path(name, home, base)
                    return Ground(1, hybrid, base, path, home, limits, membership=name)
        base = self._base(unified, "") if unified and membership != 1 else None
        if unified is None or base is None:
            found = unified or next(iter(v1.values()))
            return Ground(why=because("cgroup.not_ours", path=str(found.point)))
        offered = _words(base / "cgroup.controllers")
        limits |= {name: base for name in CONTROLLERS.values() if name in offered}
        home = unified.point / self._below(unified, "")
        return Ground(2, bool(v1), base, self._path("", home, base), home, limits)

    def _path(self, name: str, home: Path, base: Path) -> str:
        own = self.own.get(name, "/")
        return own if base == home else str(Path(own).parent)

    def _below(self, mount: Mount, name: str) -> str:
        path = self.own.get(name, "/")
        return os.path.relpath(path, mount.root) if mount.root != "/" else path.lstrip("/")

    def _base(self, mount: Mount, name: str) -> Path | None:
        """The folder in one hierarchy in which we may make cgroups, if there is one."""
        below = self._below(mount, name)
        if below.startswith(".."):
            return None  # our cgroup lies outside of what is mounted here
        here = mount.point / below
        if self._is_ours(here, below):
            return here
        # DelegateSubgroup=: the agent sits in a cgroup below the one that was delegated.
        if below not in {"", "."} and _delegated(here.parent) and _writable(here.parent):
            return here.parent
        return None

    def _is_ours(self, folder: Path, below: str) -> bool:
        if not _writable(folder):
            return False
        if _delegated(folder):
            return True
        if self.systemd:
            return False
        uid = os.geteuid()
        return below in {"", "."} or (uid != 0 and folder.stat().st_uid == uid)


def _delegated(folder: Path) -> bool:
    for name in ("trusted.delegate", "user.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(folder, name) == b"1":
                return True
    return False


def _writable(folder: Path) -> bool:
    # (access(2) tells of read-only mounts too, which root's rights do not pass by)
    try:
        return stat.S_ISDIR(folder.stat().st_mode) and os.access(
            folder, os.W_OK | os.X_OK, effective_ids=True
        )
    except OSError:
        return False


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:
        return []
