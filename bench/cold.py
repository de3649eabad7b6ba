"""Start and stop of N services from nothing: from the exec of the supervisor to the last service.

The contestants take turns, so that a noisy moment of the machine hits all of them. A start ends when
the last service read its own clock; a stop begins with the signal to the supervisor, at rest by then,
and ends when the last service's process has ended.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import common
from contest import Contest, Figures, median_spread

_REST = 3.0  # seconds between the last start and the stop


def measure(contest: Contest, count: int, runs: int) -> tuple[Figures, Figures]:
    """Seconds of every start and of every stop, by contestant."""
    starts: Figures = {rival.title: [] for rival in contest.rivals}
    stops: Figures = {rival.title: [] for rival in contest.rivals}
    for _ in range(runs):
        for rival in contest.rivals:
            with contest.running(rival, count) as peer:
                starts[rival.title].append(peer.all_running() - peer.began)
                contest.settle(_REST)
                took = peer.end()
                if took is not None:
                    stops[rival.title].append(took)
    return starts, stops


def report(contest: Contest, counts: Sequence[int], runs: Sequence[int]) -> str:
    intro = (
        "## Start and stop\n\nFrom the exec of the supervisor to the first instruction of the last "
        f"service, by the service's own clock; and from the signal that ends the supervisor, {_REST:.0f} s "
        "after the last start, to the end of the last service.\n"
    )
    parts = [intro]
    for count, times in zip(counts, runs, strict=True):
        starts, stops = measure(contest, count, times)
        base = statistics.median(starts[contest.floor])
        stop_base = statistics.median(stops[contest.floor])
        rows = []
        for name, values in starts.items():
            ended = stops[name]
            rows.append(
                [
                    contest.label(name),
                    median_spread(values),
                    f"{statistics.median(values) / base:.1f}",
                    median_spread(ended) if ended else "not all within 60 s",
                    f"{statistics.median(ended) / stop_base:.1f}" if ended else "-",
                ]
            )
        head = [f"{count} services, {times} runs", "start ms", "× floor", "stop ms", "× floor"]
        parts.append(common.table(head, rows) + "\n")
    return "\n".join(parts)
