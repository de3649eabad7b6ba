"""The agent's folder: one agent per folder, who it is, and where its files are.

The lock is an flock on an open file: it dies with the process, whatever happened to it, so there is
no stale pid file to clean (reliability.md P13). Identity lives beside it: `agent-id`, a uuid that
marks everything of ours in Consul and in process environments, and `node`, fixed at first use.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import uuid
from pathlib import Path

from lictor.core.errors import AgentExists, OperationFailed
from lictor.core.model.names import dns_safe
from lictor.core.model.reason import because
from lictor.core.worded import worded


class DataDir:
    """An opened and locked data_dir. Close it last."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def open(cls, path: Path) -> DataDir:
        """Create the folder (0700) if need be and take the lock.

        Raises `AgentExists` when another agent holds it, `OperationFailed` when it cannot be used.
        """
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            (path / "logs").mkdir(exist_ok=True, mode=0o750)
            handle = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise worded(
                OperationFailed,
                because("agent.data_dir", path=str(path), error=error.strerror or str(error)),
                hint=because("next.writable_data_dir"),
                code="agent.data_dir",
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 32, 0).decode(errors="replace").strip()
            os.close(handle)
            raise worded(
                AgentExists,
                because("agent.already_pid", pid=holder, path=str(path))
                if holder.isdigit()
                else because("agent.already", path=str(path)),
                hint=because("next.second_agent"),
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        return cls(path, handle)

    def close(self) -> None:
        """Give the lock back."""
        with contextlib.suppress(OSError):
            os.close(self._lock)

    @property
    def socket(self) -> Path:
        """Where the CLI finds the agent."""
        return self.path / "lictor.sock"

    @property
    def logs(self) -> Path:
        """Where services write their logs."""
        return self.path / "logs"

    def agent_id(self) -> str:
        """The uuid of this installation, made once."""
        return self._remembered("agent-id", str(uuid.uuid4()))

    def node(self, configured: str | None) -> str:
        """The node name: the configured one, else the host name made DNS-safe, fixed at first use."""
        if configured:
            return configured
        return self._remembered("node", dns_safe(socket.gethostname()))

    def _remembered(self, name: str, default: str) -> str:
        path = self.path / name
        with contextlib.suppress(OSError, UnicodeDecodeError):
            text = path.read_text(encoding="ascii").strip()
            if text:
                return text
        write_atomically(path, f"{default}\n")
        return default


def write_atomically(path: Path, content: str, mode: int = 0o600) -> None:
    """Replace a small file so that it is old or new, never torn (write, fsync, rename)."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.write(handle, content.encode())
        os.fsync(handle)
    finally:
        os.close(handle)
    temporary.replace(path)


def boot_id() -> str:
    """The kernel's id of this boot: a pid and start time mean nothing across boots."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
