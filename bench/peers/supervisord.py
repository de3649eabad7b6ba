"""supervisord with the settings with which it is fastest: startsecs=0, no log of its own."""

from __future__ import annotations

import contextlib
import subprocess
import time
import xmlrpc.client
from collections.abc import Callable, Sequence
from pathlib import Path

import common

from peers.peer import BENCH, Peer

_PROGRAM = BENCH / "venv" / "bin" / "supervisord"


class Supervisord(Peer):
    title = "supervisord"
    slow_restart = True

    @classmethod
    def missing(cls) -> str | None:
        return None if _PROGRAM.exists() else "supervisord is not installed"

    @classmethod
    def version(cls) -> str:
        argv = [_PROGRAM, "--version"]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()

    def prepare(self) -> None:
        self.port = common.free_port()
        lines = [
            "[supervisord]",
            "nodaemon=true",
            "loglevel=critical",
            "logfile=/dev/null",
            "logfile_maxbytes=0",
            f"pidfile={self.folder / 'pid'}",
            f"childlogdir={self.folder}",
            "minfds=4096",
            "[inet_http_server]",
            f"port=127.0.0.1:{self.port}",
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
        ]
        for name, argv in self.commands.items():
            lines += [f"[program:{name}]", f"command={' '.join(argv)}"]
            lines += ["startsecs=0", "autorestart=true"]
        (self.folder / "supervisord.conf").write_text("\n".join(lines) + "\n")

    def argv(self) -> Sequence[str | Path]:
        return [_PROGRAM, "-c", self.folder / "supervisord.conf"]

    def status(self) -> Callable[[], object]:
        server = xmlrpc.client.ServerProxy(f"http://127.0.0.1:{self.port}/RPC2")
        for _ in range(100):
            try:
                server.supervisor.getState()
                break
            except (TimeoutError, OSError):
                time.sleep(0.1)
        return server.supervisor.getAllProcessInfo

    def ask_to_end(self) -> None:
        # A signal waits for the next turn of its loop, up to a second; its own stop does not.
        with contextlib.suppress(OSError):
            self.status()
            server = xmlrpc.client.ServerProxy(f"http://127.0.0.1:{self.port}/RPC2")
            server.supervisor.stopAllProcesses(False)
        super().ask_to_end()
