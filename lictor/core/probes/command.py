"""A probe that runs a program: status 0 passes, the first line of its output says why.

The program runs in a session of its own with /dev/null as input; its output is read up to 64 KB
and the rest drained; when the time is over the whole group is killed. It gets the agent's PATH,
HOME, LANG and TZ and nothing else (never a Consul token), no shell, and no descriptor of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable

from lictor.core.model.spec import ProbeSpec
from lictor.core.ports import ProbeResult
from lictor.core.probes.text import one_line

_OUTPUT_LIMIT = 64 * 1024
_INHERITED = ("PATH", "HOME", "LANG", "TZ")


async def probe_command(
    spec: ProbeSpec, spawned: Callable[[int], None] | None = None
) -> ProbeResult:
    """Run `spec.argv` once; `spawned` hears of its pid as soon as there is one."""
    if not spec.argv:
        return ProbeResult(passed=False, output="there is no command to run")
    env = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        os.set_blocking(write_end, True)
        child = _spawn(spec, env, write_end)
        if spawned is not None:
            spawned(child.pid)
    except (OSError, ValueError) as error:
        os.close(read_end)
        words = error.strerror if isinstance(error, OSError) else str(error)
        return ProbeResult(passed=False, output=f"{spec.argv[0]}: {words}")
    finally:
        os.close(write_end)
    output = _Output(read_end)
    try:
        async with asyncio.timeout(spec.timeout):
            code = await _ended(child)
    except TimeoutError:
        return ProbeResult(passed=False, output=f"no end within {spec.timeout:g} s")
    finally:
        _kill(child)
        output.close()
    return _judge(code, bytes(output.data))


def _spawn(spec: ProbeSpec, env: dict[str, str], output: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        spec.argv,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=env,
        start_new_session=True,
    )


async def _ended(child: subprocess.Popen[bytes]) -> int:
    """Wait for the end by pidfd: no thread, no signal handler, no polling."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    pidfd = os.pidfd_open(child.pid)
    try:
        loop.add_reader(pidfd, ended.set)
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
    # A member of the group keeps the group's number ours, so kill before the number is given back.
    _kill_group(child.pid)
    return child.wait()


def _kill(child: subprocess.Popen[bytes]) -> None:
    if child.returncode is None:
        _kill_group(child.pid)
        child.kill()
        # KILL ends it in microseconds; only a process stuck in the kernel would hold us here.
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=1)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _judge(code: int, output: bytes) -> ProbeResult:
    said = one_line(output)
    if code == 0:
        return ProbeResult(passed=True, output=said or "exit status 0")
    how = f"exit status {code}" if code > 0 else f"ended by signal {-code}"
    return ProbeResult(passed=False, output=f"{how}: {said}" if said else how)


class _Output:
    """Reads a pipe as it fills: keeps the beginning, drains the rest."""

    def __init__(self, fd: int) -> None:
        self.data = bytearray()
        self._fd = fd
        asyncio.get_running_loop().add_reader(fd, self._read)

    def _read(self) -> bool:
        try:
            chunk = os.read(self._fd, 65536)
        except OSError:
            return False
        self.data += chunk[: _OUTPUT_LIMIT - len(self.data)]
        if not chunk:
            # The end of the pipe stays readable for ever.
            asyncio.get_running_loop().remove_reader(self._fd)
        return bool(chunk)

    def close(self) -> None:
        """Take what is still in the pipe (one last look: the writers are dead) and close it."""
        for _ in range(16):
            if not self._read():
                break
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)
