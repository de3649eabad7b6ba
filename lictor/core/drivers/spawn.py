"""From a spec to a running program: account, environment, log file, exec, and what went wrong.

The program is executed by `subprocess.Popen` itself, in the loop's thread: about a millisecond, and
an error of exec arrives as the errno that the kernel gave. Nothing here goes through a shell, and
the child inherits no descriptor but /dev/null and its own log file. When something fails, the cause
is looked for afterwards (missing program, missing interpreter, missing folder, no right), because
the kernel says ENOENT to three of those. This module never waits for a program and never ends one.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import pwd
import signal
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lictor.core.drivers.oom import unspare_child
from lictor.core.drivers.tree import JOB, MARK, RUN, read_proc, ticks_now
from lictor.core.errors import StartFailed
from lictor.core.model.spec import ServiceSpec

_LOG_FLAGS = (
    # O_NONBLOCK: opening a fifo that somebody put there must fail, not hang.
    os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
)


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a child runs as; None leaves things as the agent has them."""

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None
    name: str | None = None
    home: str | None = None


@dataclass(frozen=True, slots=True)
class Launched:
    """A program that was executed. The caller owns `pidfd`."""

    pid: int
    pidfd: int
    start_time: int


def default_signals() -> None:
    """Give this process, and so every service, the default signal behaviour and an empty mask.

    Whoever started the agent may have left signals ignored or blocked (a script's `&` ignores INT
    and QUIT, nohup ignores HUP), and both are inherited through exec: a service that cannot be
    interrupted would be the agent's fault. PIPE stays as Python has it; Popen resets it.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE}:
        if signal.getsignal(number) is signal.SIG_IGN and number != signal.SIGXFSZ:
            signal.signal(number, signal.SIG_DFL)


def failed(message: str, code: str, **params: object) -> StartFailed:
    """A `StartFailed` whose reason is `start.<code>`."""
    return StartFailed(message, reason_code=f"start.{code}", params=params)


def words(error: OSError) -> str:
    """What the kernel itself says: `No space left on device`."""
    return os.strerror(error.errno) if error.errno else str(error)


def account_of(spec: ServiceSpec) -> Account:
    """Look up `user` and `group` (names or numbers). Raises `StartFailed`."""
    gid = _gid(spec.group) if spec.group is not None else None
    if spec.user is None:
        _need_root(spec, None, gid)
        return Account(gid=gid)
    try:
        entry = pwd.getpwuid(int(spec.user)) if spec.user.isdigit() else pwd.getpwnam(spec.user)
    except KeyError:
        raise failed(f"there is no user {spec.user}", "user_unknown", user=spec.user) from None
    gid = entry.pw_gid if gid is None else gid
    _need_root(spec, entry.pw_uid, gid)
    if os.geteuid() != 0:
        return Account()
    groups = tuple(os.getgrouplist(entry.pw_name, gid))
    return Account(entry.pw_uid, gid, groups, entry.pw_name, entry.pw_dir)


def _gid(group: str) -> int:
    try:
        return grp.getgrgid(int(group)).gr_gid if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise failed(f"there is no group {group}", "group_unknown", group=group) from None


def _need_root(spec: ServiceSpec, uid: int | None, gid: int | None) -> None:
    if os.geteuid() == 0 or (uid in {None, os.geteuid()} and gid in {None, os.getegid()}):
        return
    who = spec.user or f"group {spec.group}"
    raise failed(f"only root may run a service as {who}", "not_permitted", user=who)


def environment(
    spec: ServiceSpec, account: Account, *, agent_id: str, node: str, job: bool
) -> dict[str, str]:
    """The child's whole environment: our mark first, then what the spec says.

    HOME, USER and LOGNAME that merely repeat the agent's own are those of the child's user
    instead: a service of another user cannot write to the agent's home.
    """
    # (`launch` writes the time of the run; its place is here because only the beginning is read)
    ours = {MARK: f"{agent_id}:{spec.key}", RUN: ""}
    if job:
        ours[JOB] = "1"
    ours |= {"LICTOR_AGENT": agent_id, "LICTOR_SERVICE": str(spec.key)}
    if node:
        ours["LICTOR_NODE"] = node
    env = spec.environment()
    own = {"HOME": account.home, "USER": account.name, "LOGNAME": account.name}
    for name, value in own.items():
        if value is not None and env.get(name) in {None, os.environ.get(name)}:
            env[name] = value
    return ours | {name: value for name, value in env.items() if name not in ours}


def open_log(path: Path) -> int:
    """Open a service's log for appending, 0640: `runtime.rotation` relies on that mode.

    Raises `StartFailed` (`start.log_unwritable`), for links, fifos and devices too.
    """
    try:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        fd = os.open(path, _LOG_FLAGS, 0o640)
    except OSError as error:
        raise _unwritable(path, words(error)) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _unwritable(path, "not a regular file")
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK)
    return fd


def _unwritable(path: Path, error: str) -> StartFailed:
    text = f"its log {path} cannot be written: {error}"
    return failed(text, "log_unwritable", path=str(path), error=error)


def launch(
    spec: ServiceSpec, argv: Sequence[str], env: Mapping[str, str], account: Account, log: int
) -> Launched:
    """Execute `argv` in a session of its own. Raises `StartFailed`.

    A program without a slash is looked for in the child's PATH, one with a slash relative to `cwd`.
    `LICTOR_RUN` in `env` becomes the time of the start.
    """
    if not argv:
        raise failed("there is no command to run", "program_missing", program="")
    _require_installed(spec, (*argv, *env.values()))
    try:
        child = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=spec.cwd,
            # The next agent knows the service by this time only if the fork follows at once
            # (`Mark.leads`): it is taken after everything that a busy disk can hold up.
            env={**env, RUN: str(ticks_now())},
            start_new_session=True,
            user=account.uid,
            group=account.gid,
            extra_groups=account.groups,
            umask=-1 if spec.umask is None else spec.umask,
        )
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise _diagnose(error, spec, argv[0], env) from error
    # From here on the child is ours alone: Popen must neither warn about it nor collect its status.
    child.returncode = 0
    unspare_child(child.pid)
    return _hold(child.pid)


def _require_installed(spec: ServiceSpec, words: Sequence[str]) -> None:
    """Say `lictor install` instead of whatever the program would say of a file that is not there."""
    for path in spec.install.needed_by(words):
        if not os.path.exists(path):  # noqa: PTH110 - no object for each start of each service
            name = spec.key.name
            text = f"{path} is missing: run `lictor install {name}`"
            raise failed(text, "not_installed", path=path, name=name)


def _hold(pid: int) -> Launched:
    try:
        pidfd = os.pidfd_open(pid)
        proc = read_proc(pid)
    except OSError as error:
        # Without a descriptor its end would go unseen: better not to run it at all.
        os.killpg(pid, 9)
        os.waitpid(pid, 0)
        raise failed(
            f"it cannot be watched: {words(error)}", "os_error", error=words(error)
        ) from error
    # An unreaped child always has its line in /proc; 0 never equals a real start time.
    return Launched(pid, pidfd, proc.start if proc else 0)


def _diagnose(
    error: Exception, spec: ServiceSpec, program: str, env: Mapping[str, str]
) -> StartFailed:
    number = error.errno if isinstance(error, OSError) else None
    said = words(error) if isinstance(error, OSError) else str(error)
    cwd = Path(spec.cwd)
    if number in {errno.ENOENT, errno.ENOTDIR}:
        if not cwd.is_dir():
            return failed(f"its folder {cwd} does not exist", "cwd_missing", cwd=str(cwd))
        found = find_program(program, cwd, env)
        if found is None:
            return failed(f"there is no program {program}", "program_missing", program=program)
        interpreter = _interpreter(found)
        return failed(
            f"{found} needs {interpreter}, which is missing",
            "bad_interpreter",
            program=str(found),
            interpreter=interpreter,
        )
    if number == errno.EACCES and getattr(error, "filename", None) != spec.cwd:
        found = find_program(program, cwd, env)
        if found is None and "/" not in program:
            # One folder of PATH may not be entered, and no other has it.
            return failed(f"there is no program {program}", "program_missing", program=program)
        name = str(found or program)
        return failed(f"{name} may not be executed", "not_executable", program=name)
    if number == errno.EPERM and (spec.user or spec.group):
        who = spec.user or f"group {spec.group}"
        return failed(f"it may not be run as {who}", "not_permitted", user=who)
    return failed(f"the system refused: {said}", "os_error", error=said)


def find_program(program: str, cwd: Path, env: Mapping[str, str]) -> Path | None:
    """Where exec would have found `program`: as the child sees it, from its PATH and folder."""
    folders = [""] if "/" in program else os.get_exec_path(env)
    for folder in folders:
        path = cwd / folder / program
        # (os.path: a folder of PATH that we may not enter holds nothing for us, as for exec)
        if os.path.exists(path):  # noqa: PTH110
            return path
    return None


def _interpreter(program: Path) -> str:
    try:
        with program.open("rb") as file:
            first = file.readline(256)
    except OSError:
        return "its interpreter"
    if first.startswith(b"#!"):
        line = first[2:].decode(errors="replace").split()
        return line[0] if line else "its interpreter"
    return "its dynamic loader"
