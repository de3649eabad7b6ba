"""The one door to NVML (`pynvml`), as a program of its own: a question a line, an answer a line.

    python -m lictor.core.probes.nvml        then, on stdin, one line for each look

It is a process apart from the agent because a driver that hangs, hangs whoever called it, without
end and beyond any signal (a lost card, a reload, `nvidia-smi` stuck in the kernel): `gpu_helper` kills
this one and goes on. An answer is one JSON object: `{"cards": [...], "driver", "cuda", "problem"}`, or
`{"error": text}` when nothing sensible could be read. Every single figure may be missing on some card,
driver or version (fan of a passive card, power of a laptop, memory of processes below WSL, symbols of
an older driver): it is null then, and never ends the look. Nothing here knows services or decides.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from typing import Any

import pynvml

#: After these the session with the driver is over: shut down, begin anew, look again.
_STALE = (
    pynvml.NVML_ERROR_UNINITIALIZED,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
)
#: A card that is gone while the others work.
_LOST = (pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED)
_KINDS = ("Compute", "Graphics", "MPSCompute")
_PROBLEMS = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no_library",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "no_driver",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "mismatch",
    pynvml.NVML_ERROR_NO_PERMISSION: "refused",
}


class _Lost(Exception):
    """The card that was asked is gone."""


class Session:
    """One session with the driver, begun when it is needed and after it broke."""

    def __init__(self) -> None:
        self._open = False
        self._seen: dict[str, int] = {}

    def look(self) -> dict[str, Any]:
        """All cards now; a session that broke since the last look is begun anew once."""
        for again in (True, False):
            try:
                self._begin()
                return self._cards()
            except pynvml.NVMLError as error:
                self._end()
                problem = _PROBLEMS.get(error.value)
                if error.value in _STALE and again:
                    continue
                if problem is not None:
                    return {"cards": [], "problem": problem}
                return {"error": _words(error)}
        return {"error": "the driver was reloaded twice within one look"}

    def _begin(self) -> None:
        if not self._open:
            pynvml.nvmlInit()
            self._open = True

    def _end(self) -> None:
        if self._open:
            self._open = False
            with contextlib.suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()

    def _cards(self) -> dict[str, Any]:
        cards = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            try:
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            except pynvml.NVMLError as error:
                if error.value in _STALE:
                    raise
                # One card that cannot be opened (lost, taken away from us) hides no other.
                cards.append({"uuid": f"index:{index}", "index": index, "lost": True})
                continue
            cards.append(self._card(index, handle))
        return {
            "cards": cards,
            "driver": _text(_ask(pynvml.nvmlSystemGetDriverVersion)),
            "cuda": _cuda(_ask(pynvml.nvmlSystemGetCudaDriverVersion)),
            "problem": "",
        }

    def _card(self, index: int, handle: Any) -> dict[str, Any]:
        row: dict[str, Any] = {"uuid": f"index:{index}", "index": index, "lost": False}
        try:
            row["uuid"] = _text(_ask(pynvml.nvmlDeviceGetUUID, handle)) or row["uuid"]
            row["name"] = _text(_ask(pynvml.nvmlDeviceGetName, handle)) or "?"
            row["capability"] = _capability(_ask(pynvml.nvmlDeviceGetCudaComputeCapability, handle))
            row |= _memory(handle)
            rates = _ask(pynvml.nvmlDeviceGetUtilizationRates, handle)
            row["utilization"] = None if rates is None else int(rates.gpu)
            sensor = pynvml.NVML_TEMPERATURE_GPU
            row["temperature"] = _ask(pynvml.nvmlDeviceGetTemperature, handle, sensor)
            row["power"] = _watts(_ask(pynvml.nvmlDeviceGetPowerUsage, handle))
            row["power_limit"] = _watts(_ask(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle))
            row["fan"] = _ask(pynvml.nvmlDeviceGetFanSpeed, handle)
            mode = _ask(pynvml.nvmlDeviceGetMigMode, handle)
            row["mig"] = None if mode is None else bool(mode[0])
            row["processes"] = self._processes(row["uuid"], handle)
        except _Lost:
            return {"uuid": row["uuid"], "index": index, "name": row.get("name", "?"), "lost": True}
        return row

    def _processes(self, uuid: str, handle: Any) -> list[dict[str, Any]] | None:
        """Who has memory there: programs that compute and those that draw, each once."""
        found: dict[int, int | None] = {}
        told = False
        for kind in _KINDS:
            rows = _listed(kind, handle)
            if rows is None:
                continue
            told = True
            for row in rows:
                pid, used = int(row.pid), row.usedGpuMemory
                before = found.get(pid)
                # A program that is in both lists has its memory told in each, not twice as much.
                known = [value for value in (before, used) if value is not None]
                found[pid] = max(known) if known else None
        if not told:
            return None
        busy = self._busy(uuid, handle)
        return [
            {"pid": pid, "memory": used, "busy": None if busy is None else busy.get(pid, 0)}
            for pid, used in sorted(found.items())
        ]

    def _busy(self, uuid: str, handle: Any) -> dict[int, int] | None:
        """How busy each process kept the card since the look before, in percent; None: not told."""
        try:
            samples = pynvml.nvmlDeviceGetProcessUtilization(handle, self._seen.get(uuid, 0))
        except pynvml.NVMLError as error:
            # NOT_FOUND: nobody has used it since (nvml.h, nvmlDeviceGetProcessUtilization).
            return {} if error.value == pynvml.NVML_ERROR_NOT_FOUND else None
        found: dict[int, int] = {}
        for one in samples:
            self._seen[uuid] = max(self._seen.get(uuid, 0), int(one.timeStamp))
            found[int(one.pid)] = max(found.get(int(one.pid), 0), int(one.smUtil))
        return found


def _ask(function: Callable[..., Any], *args: Any) -> Any:
    """One figure; None where this card, driver or version does not have it."""
    try:
        return function(*args)
    except pynvml.NVMLError as error:
        if error.value in _LOST:
            raise _Lost from None
        if error.value in _STALE:
            raise
        return None


def _listed(kind: str, handle: Any) -> Any:
    """One list of processes, by the newest version that the driver has.

    Asked without a version, pynvml ends with an error of its own kind where the driver lacks the
    newest (`NVMLLibraryMismatchError`, which is no `NVMLError`).
    """
    for version in ("_v3", "_v2"):
        ask = getattr(pynvml, f"nvmlDeviceGet{kind}RunningProcesses{version}", None)
        rows = None if ask is None else _ask(ask, handle)
        if rows is not None:
            return rows
    return None


def _memory(handle: Any) -> dict[str, Any]:
    """Version 2 tells what the driver keeps for itself; older drivers have version 1 only."""
    told = _ask(pynvml.nvmlDeviceGetMemoryInfo, handle, pynvml.nvmlMemory_v2)
    if told is None:
        told = _ask(pynvml.nvmlDeviceGetMemoryInfo, handle)
    if told is None:
        return dict.fromkeys(("total", "free", "used", "reserved"))
    reserved = getattr(told, "reserved", None)
    return {
        "total": int(told.total),
        "free": int(told.free),
        "used": int(told.used),
        "reserved": None if reserved is None else int(reserved),
    }


def _capability(told: Any) -> float | None:
    return None if told is None else int(told[0]) + int(told[1]) / 10


def _watts(milliwatts: Any) -> float | None:
    return None if milliwatts is None else round(int(milliwatts) / 1000, 1)


def _cuda(told: Any) -> str | None:
    """12040 is CUDA 12.4 (nvml.h, NVML_CUDA_DRIVER_VERSION_MAJOR)."""
    return None if told is None else f"{int(told) // 1000}.{int(told) % 1000 // 10}"


def _text(told: Any) -> str | None:
    """Older versions of the library give bytes."""
    if told is None:
        return None
    return told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)


def _words(error: Any) -> str:
    try:
        return str(error)
    except pynvml.NVMLError:  # the words themselves come from the library
        return f"NVML error {error.value}"


def main() -> int:
    """Answer until stdin ends: whoever asked is gone then."""
    session = Session()
    for _ in sys.stdin:
        try:
            answer = session.look()
        except _Lost:
            answer = {"error": "the driver lost a card while it was asked"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
