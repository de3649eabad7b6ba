"""kill -9 of the supervisor, and its next start with the same configuration.

Lictor: while it is asked questions; how long until the next agent answers with every service ready,
and how many services have another pid than before. The peers: how many services live, and how many
run twice when the supervisor is started again.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import child
import common
from contest import Contest, median_spread
from peers.floor import Floor
from peers.lictor import Lictor
from peers.peer import Peer

_FEW = 20
_RUNS = 3


@contextlib.contextmanager
def asked(peer: Lictor) -> Iterator[None]:
    """Two viewers that go on asking, whether there is an answer or not."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            with contextlib.suppress(OSError, ValueError, KeyError):
                peer.ask("status")

    viewers = [threading.Thread(target=look) for _ in range(2)]
    for viewer in viewers:
        viewer.start()
    try:
        yield
    finally:
        over.set()
        for viewer in viewers:
            viewer.join()


def adopt(peer: Lictor) -> tuple[float, int, int]:
    """Seconds from the exec of the next agent to its full answer; pids changed; extra starts."""
    before = {name: start.pid for name, start in peer.marks.latest().items()}
    starts = len(peer.marks.read())
    with asked(peer):
        time.sleep(0.5)
        peer.kill()
        peer.begin()
        peer.all_ready()
        took = time.monotonic() - peer.began
        rows = peer.ask("status")
    now = {row["name"]: row["pid"] for row in rows}  # type: ignore[attr-defined]
    changed = sum(now.get(name) != pid or not child.alive(pid) for name, pid in before.items())
    return took, changed, len(peer.marks.read()) - starts


def orphans(peer: Peer) -> tuple[int, int]:
    """Services that live three seconds after the kill; those that run twice after a new start."""
    before = [start.pid for start in peer.marks.latest().values()]
    starts = len(peer.marks.read())
    peer.kill()
    time.sleep(3.0)
    living = sum(child.alive(pid) for pid in before)
    peer.begin()
    end = time.monotonic() + 20.0
    while time.monotonic() < end and len(peer.marks.read()) < starts + peer.count:
        time.sleep(0.1)
    running: dict[str, int] = {}
    for start in peer.marks.read():
        running[start.name] = running.get(start.name, 0) + child.alive(start.pid)
    return living, sum(number > 1 for number in running.values())


def report(contest: Contest, count: int) -> str:
    rows = []
    for rival in contest.rivals:
        if rival is Floor:
            continue
        if issubclass(rival, Lictor):
            with contest.running(rival, count) as peer:
                assert isinstance(peer, Lictor)
                peer.all_running()
                peer.all_ready()
                results = [adopt(peer) for _ in range(_RUNS)]
            took = median_spread([result[0] for result in results])
            changed = sum(result[1] for result in results)
            rows.append([contest.label(rival.title), str(count), f"{count} of {count}"])
            rows[-1] += [str(sum(result[2] for result in results)), took]
            if changed:
                rows[-1][2] = f"{changed} pids changed in {_RUNS} runs"
        else:
            with contest.running(rival, _FEW) as peer:
                peer.all_running()
                time.sleep(0.5)
                living, twice = orphans(peer)
            rows.append(
                [contest.label(rival.title), str(_FEW), f"{living} of {_FEW}", str(twice), "-"]
            )
    head = ["", "services", "kept their pid", "started a second time", "adopted and answering, ms"]
    return (
        "## kill -9 of the supervisor\n\nThen it is started again with the same configuration. "
        f"Lictor: {_RUNS} runs, asked for its status 40 times a second meanwhile; the time is from "
        "the exec of the next agent to its answer that every service is ready.\n\n"
        + common.table(head, rows)
    )
