"""A cgroup for each service: who belongs to it is then the kernel's knowledge, not our guess.

Below a cgroup that is ours (see `cgroup_find`) lies `lictor-<agent id>`, and in it `<key>.run` for
a service and `<key>.job` for its jobs. What a service forks stays in its cgroup whatever else it
does, so "nothing is left" is one short read instead of a pass over /proc, KILL reaches all of it
(`cgroup.kill`, Linux 5.14), and limits can be set. With v1 the child is born in its cgroup: the
thread that starts it steps in for that moment. With v2 only whole processes can be moved, which
costs 5 to 20 ms (the kernel waits for a grace period of RCU), so that is done beside the loop by
`cgroup_entry`, and `Cell.sealed` says when it is proved that nobody of the service is outside.
Nothing here writes outside `lictor-<agent id>`, but for the controllers it needs from its parent.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from lictor.core.drivers.cgroup_entry import Doorkeeper, Entry, Newcomer
from lictor.core.drivers.cgroup_find import CONTROLLERS, WITHOUT, Ground, discover, own_paths
from lictor.core.drivers.tree import Proc, read_proc
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Reason, because
from lictor.core.model.spec import Limits

log = logging.getLogger(__name__)

_PERIOD = 100_000  # microseconds; the kernel's own default period for CPU quotas
_LEAST_QUOTA = 1000  # microseconds; the kernel takes no less
_PREFIX = 12  # characters of the agent id: enough to tell agents of one host apart
_ONE_READ = 1 << 16
# What the kernel says of a cgroup that was removed between open and read (ENODEV), and of a threaded
# one, whose members its parent shows (EOPNOTSUPP).
_NOBODY = frozenset({errno.ENODEV, errno.ENOENT, errno.EOPNOTSUPP})


class Cell:
    """The cgroup of one service (or of its jobs): a folder in each hierarchy that is used.

    `sealed`: every process of the service is inside, so the cell alone says who is left.
    `failed`: the kernel did not let it in; the service is found by session and mark instead.
    """

    def __init__(self, ground: Ground, name: str, folders: Mapping[str, str]) -> None:
        self.ground = ground
        self.sealed = False
        self.failed = False
        self.path = f"{ground.path.rstrip('/')}/{name}"
        # (strings: these are on the way of every start and stop, and Path objects are slow)
        self._name = name
        self._folder = f"{ground.base}/{name}"
        #: controller -> the folder whose files set that limit
        self._limits = folders
        self._home = f"{ground.home}/tasks"
        self._ooms = 0

    @property
    def containment(self) -> str:
        """What `lictor status --verbose` says."""
        return WITHOUT if self.failed else self.ground.name

    @property
    def folders(self) -> list[str]:
        """Every folder of this cell, that of membership first."""
        return list(dict.fromkeys([self._folder, *self._limits.values()]))

    def make(self) -> bool:
        """Make the cell if it is not there; False (and `failed`) if that cannot be done."""
        self.sealed = self.failed = False
        try:
            for folder in self.folders:
                os.makedirs(folder, mode=0o755, exist_ok=True)  # noqa: PTH103 - 4 times as fast
        except OSError as error:
            self._fail(error)
            return False
        self._ooms = self._oom_kills()
        return True

    @contextlib.contextmanager
    def birth(self) -> Iterator[None]:
        """What the calling thread forks meanwhile is born in the cell (v1; v2: see `Doorkeeper`).

        Never leaves the thread inside: the way home is opened before it goes in.
        """
        if self.failed or self.ground.version != 1:
            yield
            return
        try:
            home = os.open(self._home, os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            self._fail(error)
            yield
            return
        try:
            try:
                if self.ground.membership == "pids":
                    _write(f"{self._folder}/pids.max", b"max")  # KILL may have left it shut
                _write(f"{self._folder}/tasks", b"0")
                self.sealed = True
            except OSError as error:
                self._fail(error)
            yield
        finally:
            try:
                os.write(home, b"0")
            finally:
                os.close(home)

    def admit(self, pid: int) -> None:
        """Move a process in, with all its threads. One that ended meanwhile is no error."""
        for folder in self.folders:
            try:
                _write(f"{folder}/cgroup.procs", str(pid).encode())
            except ProcessLookupError:
                return
            except OSError as error:
                self._fail(error)
                return

    def holds(self, pid: int) -> bool:
        """Whether a process is in the cell, by what the kernel says of that process."""
        try:
            paths = own_paths(Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8"))
        except OSError:
            return True  # it is gone
        path = paths.get(self.ground.membership, "")
        return path == self.path or path.startswith(self.path + "/")

    def outside(self, folder: str) -> set[int]:
        """Members that are not (yet) in the folder of one controller (v1)."""
        return set(self.pids()) - set(_procs(folder))

    def pids(self) -> list[int]:
        """Everybody in the cell, zombies aside. Raises `OSError` if we lack the means to look."""
        return _procs(self._folder)

    def living(self) -> list[Proc]:
        """Everybody in the cell with his start time, the agent itself never.

        A number counts only if it was inside before and after its start time was read: so the
        pair of both names a process of this cell even if numbers are reused meanwhile.
        """
        before = self.pids()
        if not before:
            return []
        procs = [proc for pid in before if (proc := read_proc(pid)) is not None]
        # (with v1 the agent steps in itself for a moment, see `birth`)
        after = frozenset(self.pids()) - {0, 1, os.getpid()}
        return [proc for proc in procs if proc.pid in after and not proc.dead]

    def kill(self) -> bool:
        """KILL everybody at once (v2), or see to it that nobody new can come (v1 with pids).

        True if the kernel has done it all; else the caller signals each one himself.
        """
        try:
            if self.ground.version == 2:
                _write(f"{self._folder}/cgroup.kill", b"1")
                return True
            if self.ground.membership == "pids":
                _write(f"{self._folder}/pids.max", b"0")
        except OSError:
            pass  # an older kernel, or there is no cell any more
        return False

    def hold_to(self, limits: Limits) -> None:
        """Set the limits of this run."""
        quota = None if limits.cpu is None else max(_LEAST_QUOTA, int(limits.cpu * _PERIOD))
        v1: dict[str, dict[str, object]] = {
            "memory": {"memory.limit_in_bytes": limits.memory or -1},
            "cpu": {"cpu.cfs_period_us": _PERIOD, "cpu.cfs_quota_us": quota or -1},
            "pids": {"pids.max": limits.tasks or "max"},
        }
        v2: dict[str, dict[str, object]] = {
            # Half a service is worse than none, for its restart is what helps: kill it whole.
            "memory": {"memory.oom.group": 1, "memory.max": limits.memory or "max"},
            "cpu": {"cpu.max": f"{quota or 'max'} {_PERIOD}"},
            "pids": v1["pids"],
        }
        for controller, folder in self._limits.items():
            unified = self.ground.version == 2 and folder == self._folder
            for name, value in (v2 if unified else v1)[controller].items():
                try:
                    _write(f"{folder}/{name}", str(value).encode())
                except OSError as error:
                    log.warning("%s cannot be set for %s: %s", name, self._name, error)

    def oom_killed(self) -> bool:
        """Whether the kernel killed somebody of this run for want of memory."""
        return self._oom_kills() > self._ooms

    def remove(self) -> bool:
        """Remove the cell if nobody is in it."""
        self.sealed = False
        return [_remove(folder) for folder in self.folders].count(False) == 0

    def _oom_kills(self) -> int:
        folder = self._limits.get("memory")
        if folder is None:
            return 0
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError):
                data = _read(f"{folder}/{name}")
                found = re.search(rb"^oom_kill (\d+)$", data, re.MULTILINE)
                return int(found[1]) if found else 0
        return 0

    def _fail(self, error: OSError) -> None:
        if not self.failed:
            log.info("no cgroup for %s: %s", self._name, os.strerror(error.errno or 0))
        self.sealed, self.failed = False, True


class Cells:
    """The cells of one agent. Discovery happens at the first use, once."""

    def __init__(self, agent_id: str, ground: Ground | None = None) -> None:
        safe = re.sub(r"[^A-Za-z0-9-]", "-", agent_id)[:_PREFIX]
        self._name = f"lictor-{safe}"
        self._given = ground
        self._ground: Ground | None = None
        self._enabled: dict[str, bool] = {}
        self._left: set[str] = set()
        self._doorkeeper = Doorkeeper()

    @property
    def ground(self) -> Ground:
        """What this host gives us."""
        if self._ground is None:
            self._ground = self._begin(self._given or discover())
        return self._ground

    def cell(self, key: ServiceKey, limits: Limits, *, job: bool = False) -> Cell | None:
        """The cell of a service or of its jobs; None where there are no cgroups for us.

        Jobs are not held to the service's limits: a migration is not the service.
        """
        ground = self.ground
        if ground.version == 0:
            return None
        name = f"{self._name}/{_named(key, job=job)}"
        asked = () if job else (CONTROLLERS[limit] for limit in limits.given())
        folders = {c: f"{ground.limits[c]}/{name}" for c in asked if self._usable(c)}
        return Cell(ground, name, folders)

    def left(self, key: ServiceKey, *, job: bool = False) -> bool:
        """Whether somebody is in this cell since before this agent began."""
        if self.ground.version == 0 or _named(key, job=job) not in self._left:
            return False
        cell = self.cell(key, Limits(), job=job)
        return cell is not None and bool(cell.living())

    def enter(self, cell: Cell, newcomer: Newcomer, limits: Limits) -> None:
        """Bring a main process, and what it forked already, where it belongs."""
        if cell.failed:
            return
        if cell.sealed and len(cell.folders) == 1:
            cell.hold_to(limits)
            return
        self._doorkeeper.bring(Entry(cell, newcomer, limits))

    def unkept(self, limits: Limits) -> Reason | None:
        """Which limits this host cannot keep, if any."""
        names = [
            name
            for name in limits.given()
            if not (self.ground.version and self._usable(CONTROLLERS[name]))
        ]
        return because("limits.no_effect", limits=", ".join(names)) if names else None

    def tidy(self) -> None:
        """Remove every cell in which nobody is, those of earlier agents too, and our own folder."""
        ground = self.ground
        if ground.version == 0:
            return
        for base in dict.fromkeys([ground.base, *ground.limits.values()]):
            _remove(f"{base}/{self._name}")

    def close(self) -> None:
        """Let go; services stay in their cells."""
        self._doorkeeper.close()
        if self._ground is not None:
            self.tidy()

    def _begin(self, ground: Ground) -> Ground:
        if ground.version == 0:
            return ground
        ours = f"{ground.base}/{self._name}"
        _remove(ours)  # what earlier agents left and nobody is in
        try:
            Path(ours).mkdir(mode=0o755, exist_ok=True)
            _below(ours, lambda cell: self._left.add(Path(cell).name))
        except OSError:
            return Ground(why=because("cgroup.not_ours", path=str(ground.base)))
        return ground

    def _usable(self, controller: str) -> bool:
        """Whether a limit can be set; with v2 its controller is switched on for our cells first."""
        base = self.ground.limits.get(controller)
        if base is None:
            return False
        if controller not in self._enabled:
            self._enabled[controller] = not (base / "cgroup.controllers").exists() or all(
                _switch_on(folder, controller) for folder in (f"{base}", f"{base}/{self._name}")
            )
        return self._enabled[controller]


def _named(key: ServiceKey, *, job: bool) -> str:
    return f"{key}.{'job' if job else 'run'}"


def _switch_on(folder: str, controller: str) -> bool:
    """Give a controller to the cgroups below.

    The kernel refuses (EBUSY) where processes sit in `folder` itself and it is not the root. The
    agent does not move away to make room: systemd could not start it there again.
    """
    control = f"{folder}/cgroup.subtree_control"
    try:
        if controller.encode() not in _read(control).split():
            _write(control, f"+{controller}".encode())
    except OSError:
        return False
    return True


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while more := os.read(fd, _ONE_READ):
            data += more
        return data
    finally:
        os.close(fd)


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def _below(folder: str, visit: Callable[[str], object]) -> None:
    """Visit the cgroups in a cgroup. The count of links tells without a listing if there are any."""
    if os.stat(folder).st_nlink > 2:  # noqa: PTH116 - hot
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    visit(entry.path)


def _procs(folder: str) -> list[int]:
    """Everybody in a cgroup and in those that its members made in it."""
    try:
        found = [int(pid) for pid in _read(f"{folder}/cgroup.procs").split()]
        _below(folder, lambda inner: found.extend(_procs(inner)))
    except OSError as error:
        if error.errno not in _NOBODY:
            raise
        return []
    return found


def _remove(folder: str) -> bool:
    with contextlib.suppress(OSError):
        _below(folder, _remove)
    try:
        os.rmdir(folder)  # noqa: PTH106 - hot
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
