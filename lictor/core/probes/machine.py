"""What this machine is doing: processors, memory, disks, network, Docker, the busiest processes.

GPUs are looked at elsewhere (`gpu_helper`), because their driver may hang.

The one door to psutil's figures. `look` takes some milliseconds and belongs into a thread; rates
(CPU, network) are over the time since the look before, so the first look has none. A value that
cannot be had is None, and `unknown` says why by its name; nothing here raises for a host that lacks
a sensor, and nothing runs while nobody looks.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil

from lictor.core.model.reason import Reason, because
from lictor.core.probes.text import one_line

T = TypeVar("T")

_MIB = 1024 * 1024
_TOP = 10
_TEMPERATURES = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "acpitz")
#: File systems that are no disks, besides those psutil leaves out already.
_NO_DISKS = frozenset({"squashfs", "overlay", "tmpfs", "devtmpfs", "ramfs", "iso9660", "nsfs"})


@dataclass(slots=True)
class Look:
    """What one look found."""

    values: dict[str, Any] = field(default_factory=dict)
    unknown: dict[str, Reason] = field(default_factory=dict)

    def put(self, name: str, ask: Callable[[], Any]) -> None:
        """A value by its name; None with the reason when the host will not say."""
        try:
            self.values[name] = ask()
        except Exception as error:  # noqa: BLE001 - whatever a kernel or a driver does, it is shown
            self.values[name] = None
            self.unknown[name] = because("monitor.failed", why=str(error) or type(error).__name__)

    def missing(self, name: str, reason: Reason) -> None:
        """A value that this host does not have."""
        self.unknown[name] = reason


class Machine:
    """Remembers the last look, for rates. Not for two threads at a time."""

    def __init__(self) -> None:
        self._processes: dict[int, psutil.Process] = {}
        self._sent: tuple[float, Mapping[str, tuple[int, int]]] | None = None
        self._model: str | None = None

    def look(self) -> Look:
        """Everything, now."""
        found = Look()
        found.put("cpu", lambda: self._cpu(found))
        found.put("memory", _memory)
        found.put("swap", _swap)
        found.put("disks", _disks)
        found.put("network", self._network)
        found.values["docker"] = None
        found.missing("docker", _no_docker())
        found.put("processes", self._busiest)
        return found

    def _cpu(self, found: Look) -> dict[str, Any]:
        per_core = psutil.cpu_percent(percpu=True)
        frequency: Any = psutil.cpu_freq()  # None where the kernel does not tell
        if frequency is None:
            found.missing("cpu.frequency_mhz", because("monitor.no_frequency"))
        temperature = _temperature()
        if temperature is None:
            found.missing("cpu.temperature_c", because("monitor.no_sensor"))
        if self._model is None:
            self._model = _cpu_model()
        return {
            "model": self._model or None,
            "cores": psutil.cpu_count(),
            "physical_cores": psutil.cpu_count(logical=False),
            "percent": round(sum(per_core) / max(1, len(per_core)), 1),
            "per_core": per_core,
            "frequency_mhz": round(frequency.current, 1) if frequency is not None else None,
            "temperature_c": temperature,
            "load": [round(value, 2) for value in psutil.getloadavg()],
        }

    def _network(self) -> list[dict[str, Any]]:
        now = time.monotonic()
        counters = psutil.net_io_counters(pernic=True)
        states, addresses = psutil.net_if_stats(), psutil.net_if_addrs()
        before, self._sent = (
            self._sent,
            (now, {name: (one.bytes_sent, one.bytes_recv) for name, one in counters.items()}),
        )
        rows = []
        for name, one in sorted(counters.items()):
            rates: tuple[float | None, float | None] = (None, None)
            if before is not None and name in before[1] and now > before[0]:
                sent, received = before[1][name]
                span = now - before[0]
                rates = ((one.bytes_sent - sent) / span, (one.bytes_recv - received) / span)
            rows.append(
                {
                    "interface": name,
                    "addresses": [
                        entry.address.partition("%")[0]
                        for entry in addresses.get(name, ())
                        if entry.family in {socket.AF_INET, socket.AF_INET6}
                    ],
                    "up": states[name].isup if name in states else None,
                    "sent_mb": round(one.bytes_sent / _MIB, 1),
                    "received_mb": round(one.bytes_recv / _MIB, 1),
                    "sent_bps": None if rates[0] is None else round(8 * max(0.0, rates[0])),
                    "received_bps": None if rates[1] is None else round(8 * max(0.0, rates[1])),
                }
            )
        return rows

    def _busiest(self) -> list[dict[str, Any]]:
        """The ten that use most CPU and memory. A process met for the first time has no rate yet."""
        pids = set(psutil.pids())
        self._processes = {pid: one for pid, one in self._processes.items() if pid in pids}
        rows: list[tuple[float, dict[str, Any]]] = []
        total = max(1, psutil.virtual_memory().total)
        for pid in pids:
            known = pid in self._processes
            try:
                one = self._processes.setdefault(pid, psutil.Process(pid))
                with one.oneshot():
                    percent, memory = one.cpu_percent(), one.memory_info().rss
                    if not memory:
                        continue  # a thread of the kernel
                    row = {"pid": pid, "name": one_line(one.name(), 64), "user": one.username()}
            except (psutil.Error, KeyError):
                self._processes.pop(pid, None)
                continue
            row |= {"cpu_percent": round(percent, 1) if known else None}
            row |= {"memory_mb": round(memory / _MIB, 1)}
            rows.append((percent + 100.0 * memory / total, row))
        rows.sort(key=lambda found: found[0], reverse=True)
        return [row for _, row in rows[:_TOP]]


def _memory() -> dict[str, Any]:
    found = psutil.virtual_memory()
    return {
        "total_mb": round(found.total / _MIB, 1),
        "used_mb": round((found.total - found.available) / _MIB, 1),
        "available_mb": round(found.available / _MIB, 1),
        "percent": found.percent,
    }


def _swap() -> dict[str, Any]:
    found = psutil.swap_memory()
    return {
        "total_mb": round(found.total / _MIB, 1),
        "used_mb": round(found.used / _MIB, 1),
        "percent": found.percent,
    }


def _disks() -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for part in psutil.disk_partitions(all=False):
        if part.fstype in _NO_DISKS or part.device in rows:
            continue  # a file system that is mounted twice is one
        try:
            used = psutil.disk_usage(part.mountpoint)
        except OSError:
            continue
        rows[part.device] = {
            "device": part.device,
            "mount": part.mountpoint,
            "type": part.fstype,
            "total_mb": round(used.total / _MIB, 1),
            "used_mb": round(used.used / _MIB, 1),
            "percent": used.percent,
        }
    return list(rows.values())


def _temperature() -> float | None:
    sensors = psutil.sensors_temperatures()
    for name in _TEMPERATURES:
        values = [one.current for one in sensors.get(name, ()) if one.current]
        if values:
            return round(max(values), 1)
    return None


def _cpu_model() -> str:
    """From /proc/cpuinfo: `model name` on x86, `Hardware` or `Model` on some others."""
    words = ("model name", "Hardware", "Model")
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    lines = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() in words), "")


def _no_docker() -> Reason:
    path = Path("/var/run/docker.sock")
    return because("monitor.docker_unread") if path.exists() else because("monitor.no_docker")
