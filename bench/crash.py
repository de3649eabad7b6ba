"""From the SIGKILL of a service to its replacement's first instruction.

Every service that is killed was up for ten seconds and more, and each is killed once, so that no
contestant's back-off is measured. The contestants run side by side and are hurt in turn. Then all
twenty services of one contestant are killed at once, and the last one back counts. At last Lictor
is asked questions all the time while its services are killed.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import statistics
import threading
import time
from collections.abc import Iterator

import common
from contest import Contest, Figures, median_spread
from peers.circus import CircusFast
from peers.floor import Floor
from peers.lictor import Lictor
from peers.peer import Peer

_UP = 10.5  # seconds a service must have been up; Lictor counts from *ready*, half a second later
_LIMIT = 20.0
_SLOW_SAMPLES = 5


def back_after(peer: Peer, names: list[str]) -> float | None:
    """Kill these services; seconds until the last replacement ran, None if it never did."""
    before = {name: start.pid for name, start in peer.marks.latest().items()}
    begun = time.monotonic()
    for name in names:
        os.kill(before[name], signal.SIGKILL)

    def done(_starts: object) -> bool:
        latest = peer.marks.latest()
        return all(latest[name].pid != before[name] for name in names)

    if not peer.marks.wait(done, _LIMIT):
        return None
    latest = peer.marks.latest()
    return max(latest[name].at for name in names) - begun


def one_by_one(contest: Contest, peers: list[Peer]) -> Figures:
    """Seconds of every crash, by contestant."""
    times: Figures = {peer.title: [] for peer in peers}
    contest.settle(_UP + 0.6)
    for number, name in enumerate(peers[0].names):
        for peer in peers:
            if peer.slow_restart and number >= _SLOW_SAMPLES:
                continue
            took = back_after(peer, [name])
            times[peer.title].append(float("inf") if took is None else took)
            time.sleep(0.05)
    return times


def storms(contest: Contest, peers: list[Peer], runs: int) -> Figures:
    """Seconds until the last of all services was back, by contestant."""
    times: Figures = {peer.title: [] for peer in peers}
    for _ in range(runs):
        contest.settle(_UP + 0.6)
        for peer in peers:
            took = back_after(peer, peer.names)
            times[peer.title].append(float("inf") if took is None else took)
            time.sleep(0.1)
    return times


@contextlib.contextmanager
def load(peer: Lictor) -> Iterator[None]:
    """Questions as many viewers put them: 200 a second over HTTP, status 10 times a second."""
    over = threading.Event()

    def browse() -> None:
        link = http.client.HTTPConnection("127.0.0.1", peer.web_port or 0, timeout=10)
        while not over.wait(0.02):
            link.request("GET", "/health/services/s000")
            link.getresponse().read()
        link.close()

    def look() -> None:
        while not over.wait(0.1):
            peer.ask("status")

    viewers = [threading.Thread(target=look)]
    if peer.web_port is not None:
        viewers += [threading.Thread(target=browse) for _ in range(4)]
    for viewer in viewers:
        viewer.start()
    try:
        yield
    finally:
        over.set()
        for viewer in viewers:
            viewer.join()


def under_load(contest: Contest, peers: list[Peer]) -> Figures:
    times: Figures = {}
    for peer in peers:
        if not isinstance(peer, Lictor):
            continue
        contest.settle(_UP + 0.6)
        with load(peer):
            time.sleep(0.5)
            taken = []
            for name in peer.names:
                taken.append(back_after(peer, [name]) or float("inf"))
                time.sleep(0.05)
            times[peer.title] = taken
    return times


def report(contest: Contest, count: int) -> str:
    with contest.all_running(count) as peers:
        single = one_by_one(contest, peers)
        many = storms(contest, peers, runs=3)
        loaded = under_load(contest, peers)
    with contest.all_running(count, (Floor, CircusFast)) as pair:
        if CircusFast.missing() is None and any(r.title == "circus" for r in contest.rivals):
            single[CircusFast.title] = one_by_one(contest, pair)[CircusFast.title]
            many[CircusFast.title] = storms(contest, pair, runs=2)[CircusFast.title]
    base = statistics.median(single[contest.floor])
    storm = statistics.median(many[contest.floor])
    rows = []
    for name, values in single.items():
        asked = loaded.get(name)
        rows.append(
            [
                contest.label(name),
                median_spread(values),
                f"{statistics.quantiles(values, n=10)[-1] * 1000:.1f}",
                f"{statistics.median(values) / base:.1f}",
                median_spread(asked) if asked else "-",
                median_spread(many[name]),
                f"{statistics.median(many[name]) / storm:.1f}",
            ]
        )
    head = ["", "crash → running, ms", "p90", "× floor", "under load, ms"]
    head += [f"{count} killed at once: last one back, ms", "× floor"]
    return (
        "## Crash\n\nFrom the SIGKILL of a service that was up for more than ten seconds to its "
        f"replacement's first instruction; {count} services each, every one killed once "
        f"({_SLOW_SAMPLES} of them where a restart takes seconds), contestants side by side, in "
        "turns. *Under load*: 200 HTTP requests and 10 `status` questions a second meanwhile (the "
        "questions alone where there is no web).\n\n" + common.table(head, rows)
    )
