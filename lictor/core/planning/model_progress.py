"""How far a model is loaded, told from what its server prints, from the cache, and from last time.

A server that loads a model answers nothing for minutes. What it prints is the only thing that knows
how far it is; the growth of the model's folder shows a download, and how long the last starts of
the same service with the same model took says how long this one will. Each is a hint and none is
trusted: readiness is the health check's word alone. To teach this another server, add rows to
`MARKERS`. Pure: the reading is done by `runtime.models.loads`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lictor.core.model.reason import Reason, because

KEPT = 5  # durations that are remembered of a service and model
_MOST = 99  # percent; the hundredth is the health check's to give
_BY_TIME_MOST = 95  # percent that time alone may claim


@dataclass(frozen=True, slots=True)
class Marker:
    """One thing that a server says while it loads.

    `pattern` is searched in what it prints. It stands for `low` percent of the whole; if it has a
    group, that is a percentage of the way from `low` to `high`.
    """

    server: str
    pattern: re.Pattern[str]
    low: int
    high: int = 0


def _rows(server: str, *rows: tuple[str, int, int]) -> tuple[Marker, ...]:
    return tuple(Marker(server, re.compile(text), low, high) for text, low, high in rows)


#: The shares are those of a 7B model from a warm disk: most of the time goes into the weights, then
#: into compiling and capturing graphs. The texts are those of vLLM's own log (v0.6 to v0.11).
MARKERS: tuple[Marker, ...] = (
    *_rows(
        "vllm",
        (r"Initializing (?:a|an) (?:V\d )?LLM engine", 3, 0),
        (r"Starting to load model", 6, 0),
        (r"Loading (?:safetensors|pt|bin) checkpoint shards:\s+(\d{1,3})% Completed", 8, 65),
        (r"Loading weights took", 66, 0),
        (r"[Mm]odel (?:weights take|loading took)", 68, 0),
        (r"torch\.compile takes", 78, 0),
        (r"# (?:GPU|CUDA) blocks|GPU KV cache size", 82, 0),
        (r"Capturing (?:the model for )?CUDA graph", 84, 0),
        (r"Capturing CUDA graph(?: shapes)?[^%\n]{0,60}?(\d{1,3})%", 84, 96),
        (r"Graph capturing finished", 97, 0),
        (r"Application startup complete", 99, 0),
    ),
    *_rows(
        "huggingface_hub",
        (r"Fetching \d+ files:\s+(\d{1,3})%", 1, 5),
    ),
    *_rows(
        "llama.cpp",
        (r"llama_model_loader: loaded meta data", 10, 0),
        (r"load_tensors: +(?:loading model tensors|offloading)", 30, 0),
        (r"llama_context: constructing", 80, 0),
        (r"main: model loaded", 97, 0),
    ),
    *_rows(
        "sglang",
        (r"Load weight begin", 8, 0),
        (r"Load weight end", 66, 0),
        (r"Capture cuda graph begin", 80, 0),
        (r"Capture cuda graph end", 96, 0),
    ),
)


@dataclass(frozen=True, slots=True)
class Loading:
    """How far a start is. None: not known. `eta` is seconds, `grown` bytes that came in this start."""

    model: str
    percent: int | None = None
    eta: int | None = None
    grown: int = 0

    def reason(self) -> Reason:
        """The sentence for people."""
        if self.percent is not None and self.eta is not None:
            return because(
                "model.loading_eta", model=self.model, percent=self.percent, eta=self.eta
            )
        if self.percent is not None:
            return because("model.loading_percent", model=self.model, percent=self.percent)
        if self.grown:
            return because("model.downloading", model=self.model, bytes=self.grown)
        return because("model.loading", model=self.model)


def percent_in(text: str) -> int | None:
    """The furthest that `text` (any stretch of a log) says the loading is; None: it says nothing."""
    found = [
        _percent(marker, match) for marker in MARKERS for match in marker.pattern.finditer(text)
    ]
    return max(found, default=None)


def _percent(marker: Marker, match: re.Match[str]) -> int:
    if not marker.pattern.groups:
        return marker.low
    share = min(100, int(match[1])) / 100
    return round(marker.low + (marker.high - marker.low) * share)


def median(values: Sequence[float]) -> float | None:
    """The middle of some durations; None of none."""
    ordered = sorted(values)
    half = len(ordered) // 2
    if not ordered:
        return None
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def estimate(
    model: str,
    *,
    elapsed: float,
    marked: int | None,
    grown: int,
    size: int | None,
    durations: Sequence[float],
) -> Loading:
    """How far the start of a model is, and how long it will take yet.

    `elapsed` seconds since its start; `marked` the percent that its log told; `grown` bytes that its
    folder in the cache has gained, of `size` that it had once it was complete (None: never seen).
    `durations` (seconds) of earlier starts that got ready. What the log says goes before what time
    says; over the usual time there is no estimate left, rather than a wrong one.
    """
    usual = median(durations)
    percent = marked
    if percent is None and grown and size:
        percent = round(min(_BY_TIME_MOST, 100 * grown / size))
    if percent is None and usual:
        percent = round(min(_BY_TIME_MOST, 100 * elapsed / usual))
    eta = None
    if usual is not None and elapsed < usual:
        eta = max(1, round(usual - elapsed))
    if percent is not None:
        percent = max(0, min(_MOST, percent))
    return Loading(model=model, percent=percent, eta=eta, grown=grown)
