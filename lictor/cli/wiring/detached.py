"""`lictor up -d`: start an agent that outlives this terminal, and wait until it answers."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from lictor.cli.wiring.configured import find_config, read_config
from lictor.cli.words import say
from lictor.core.errors import OperationFailed
from lictor.core.model.reason import because
from lictor.core.worded import worded

_LIMIT = 30.0  # seconds until it must answer


def start(explicit: str | None, on_term: str | None = None) -> int:
    """Start it; 0 when it answers. Its own words go to `data_dir/agent.log`."""
    path = find_config(explicit)
    data_dir = read_config(path).agent.data_dir  # a wrong config is told here, on this terminal
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    log_path = data_dir / "agent.log"
    with log_path.open("ab") as log:
        begun = log.tell()
        child = subprocess.Popen(
            [
                *(sys.executable, "-m", "lictor", "up", "-c", str(path)),
                *(("--on-term", on_term) if on_term else ()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env={**os.environ, "LICTOR_DATA_DIR": str(data_dir)},
        )
    ours = data_dir / "lictor.sock"
    end = time.monotonic() + _LIMIT
    while time.monotonic() < end:
        if child.poll() is not None:
            said = log_path.read_bytes()[begun:].decode(errors="replace").strip()
            sys.stderr.write(said + "\n")
            return child.returncode
        if _answers(str(ours), child.pid):
            print(say("up.detached", pid=child.pid, log=str(log_path)), file=sys.stderr)
            child.returncode = 0  # it is not ours to wait for any more
            return 0
        time.sleep(0.05)
    silent = because("agent.not_answering", pid=child.pid)
    raise worded(OperationFailed, silent, hint=because("next.see_file", path=str(log_path)))


def _answers(path: str, pid: int) -> bool:
    """Whether this very agent listens: an older one on the same data_dir would answer too."""
    import socket
    import struct

    credentials = struct.Struct("3i")  # pid, uid, gid of whoever listens (unix(7), SO_PEERCRED)
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
            raw = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
        except OSError:
            return False
        return int(credentials.unpack(raw)[0]) == pid
