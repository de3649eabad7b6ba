"""What `lictor doctor` looks at on this host: the folder for the state, and the ports of services.

It only looks: no port is bound (that would take it from a service that is just starting), and of the
folder it makes one small file, which is gone again at once. It needs no agent.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from lictor.core.drivers.tree import read_mark
from lictor.core.model.finding import Finding, Level
from lictor.core.model.reason import Reason, because
from lictor.core.model.spec import ServiceSpec
from lictor.core.probes.ports import port_holder, port_taken

#: Bytes below which a disk will soon keep neither state nor logs.
_SCARCE = 256 * 1024 * 1024


def examine_data_dir(path: Path) -> Finding:
    """Whether state and logs can be written there; a folder that is not there yet would be made."""
    folder = path
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    step = because("next.data_dir")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = because("doctor.data_dir_bad", path=str(path), error=error.strerror or "?")
        return Finding("data_dir", Level.FAIL, reason, step)
    free = shutil.disk_usage(folder).free
    if free < _SCARCE:
        reason = because("doctor.disk_full", path=str(path), free=free)
        return Finding("data_dir", Level.WARN, reason, step)
    if folder != path:
        return Finding("data_dir", Level.OK, because("doctor.data_dir_new", path=str(path)))
    if path.stat().st_uid != os.geteuid():
        reason = because("doctor.data_dir_owner", path=str(path))
        return Finding("data_dir", Level.WARN, reason, step)
    return Finding("data_dir", Level.OK, because("doctor.data_dir_ok", path=str(path), free=free))


def examine_ports(specs: Iterable[ServiceSpec], agent_id: str | None) -> list[Finding]:
    """Whether each service's port is free, or held by the service itself.

    `agent_id` is that of this data_dir (None: it never had an agent); the processes that it started
    carry its mark. Without root, the processes of other users have no names.
    """
    return [_port(spec, agent_id) for spec in specs if spec.port is not None]


def _port(spec: ServiceSpec, agent_id: str | None) -> Finding:
    level, reason, step = _look(spec, agent_id, spec.port or 0)
    return Finding("port", level, reason, step, subject=str(spec.key))


def _look(
    spec: ServiceSpec, agent_id: str | None, port: int
) -> tuple[Level, Reason, Reason | None]:
    taken = port_taken(spec.host, port)
    if spec.driver != "process":  # somebody else runs it: the port should be held
        if taken:
            return Level.OK, because("doctor.port_answers", port=port), None
        return Level.WARN, because("doctor.port_silent", port=port), None
    if not taken:
        return Level.OK, because("doctor.port_free", port=port), None
    holder = port_holder(spec.host, port)
    if holder is None:
        return Level.WARN, because("doctor.port_hidden", port=port), None
    pid, program = holder
    mark = read_mark(pid)
    if mark is not None and agent_id and mark.value == f"{agent_id}:{spec.key}".encode():
        return Level.OK, because("doctor.port_own", port=port, pid=pid), None
    reason = because("start.port_taken", port=port, program=program, pid=pid)
    return Level.FAIL, reason, because("next.port", pid=pid)


def examine_web(host: str, port: int, agent_pid: int | None) -> list[Finding]:
    """Whether the HTTP port is free, or held by the agent (`agent_pid`) that runs."""
    if port == 0 or not port_taken(host, port):
        return []
    holder = port_holder(host, port)
    if agent_pid is not None and (holder is None or holder[0] == agent_pid):
        return []
    if holder is None:
        reason = because("doctor.port_hidden", port=port)
        return [Finding("port", Level.WARN, reason, subject="web.port")]
    reason = because("start.port_taken", port=port, program=holder[1], pid=holder[0])
    return [Finding("port", Level.FAIL, reason, because("next.port", pid=holder[0]), "web.port")]
