"""What the engine's answers mean: its JSON as values of `terms`, one function for each kind.

The shapes are those of the Engine API (measured on engine 20.10, API 1.41). Pure but for one look
at the folders in which CDI specifications lie; it speaks with no engine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lictor.core.drivers.docker.terms import (
    FINGERPRINT,
    JOB,
    OWNER,
    SERVICE,
    EngineRefused,
    Inspected,
    Seen,
)


@dataclass(frozen=True, slots=True)
class Step:
    """One word of progress. Bytes over all layers, where the engine tells them."""

    said: str
    done: int = 0
    total: int = 0


def one_line(said: object) -> str:
    """The engine's own words; they name images, paths and options, never variables."""
    return " ".join(str(said).split())[:400]


def gpu_by(info: Mapping[str, Any]) -> str:
    """How an engine hands out NVIDIA cards: by their runtime, else by CDI (engine 25 or newer)."""
    if "nvidia" in (info.get("Runtimes") or {}):
        return "nvidia"
    folders: Iterable[str] = info.get("CDISpecDirs") or ()
    for folder in folders:
        with contextlib.suppress(OSError):
            if any("nvidia" in path.name for path in Path(folder).iterdir()):
                return "cdi"
    return ""


def seen(one: Mapping[str, Any]) -> Seen:
    """One row of a listing."""
    labels: Mapping[str, str] = one.get("Labels") or {}
    names = one.get("Names") or [""]
    return Seen(
        id=str(one["Id"]),
        name=str(names[0]).lstrip("/"),
        service=labels.get(SERVICE, ""),
        state=str(one.get("State") or ""),
        fingerprint=labels.get(FINGERPRINT, ""),
        job=labels.get(JOB) == "1",
    )


def shown(one: Mapping[str, Any]) -> dict[str, str]:
    """The same for people, whoever's it is."""
    labels: Mapping[str, str] = one.get("Labels") or {}
    names = one.get("Names") or [""]
    return {
        "id": str(one["Id"])[:12],
        "name": str(names[0]).lstrip("/"),
        "image": str(one.get("Image") or ""),
        "status": str(one.get("Status") or one.get("State") or ""),
        "service": labels.get(SERVICE, ""),
    }


def inspected(one: Mapping[str, Any]) -> Inspected:
    """One container, as it is when it is looked at."""
    labels: Mapping[str, str] = one["Config"].get("Labels") or {}
    state = one["State"]
    return Inspected(
        id=str(one["Id"]),
        name=str(one["Name"]).lstrip("/"),
        image=str(one["Config"].get("Image") or ""),
        state=str(state.get("Status") or ""),
        pid=int(state.get("Pid") or 0),
        code=None if state.get("ExitCode") is None else int(state["ExitCode"]),
        oom=bool(state.get("OOMKilled")),
        error=one_line(state.get("Error") or ""),
        owner=labels.get(OWNER, ""),
        service=labels.get(SERVICE, ""),
        fingerprint=labels.get(FINGERPRINT, ""),
    )


def build_step(part: Mapping[str, Any]) -> Iterator[Step]:
    """One part of a build's output. Raises `EngineRefused` for the error that ends it."""
    if part.get("error"):
        raise EngineRefused(one_line(part["error"]), 500)
    for line in str(part.get("stream") or part.get("status") or "").splitlines():
        if line.strip():
            yield Step(line.rstrip())


def pull_step(part: Mapping[str, Any], layers: dict[str, tuple[int, int]]) -> Step:
    """One part of a pull; `layers` remembers how far each of them is. Raises `EngineRefused`."""
    if part.get("error"):
        raise EngineRefused(one_line(part["error"]), 500)
    said, layer = str(part.get("status") or ""), str(part.get("id") or "")
    detail = part.get("progressDetail") or {}
    if layer and detail.get("total") and said == "Downloading":
        layers[layer] = (int(detail.get("current") or 0), int(detail["total"]))
    elif layer in layers and said in {"Download complete", "Pull complete"}:
        layers[layer] = (layers[layer][1],) * 2
    done = sum(now for now, _ in layers.values())
    return Step(said, done, sum(total for _, total in layers.values()))
