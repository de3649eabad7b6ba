"""Who takes part, and how a contestant is run: begun in a folder of its own, and cleared away."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from peers.circus import Circus
from peers.floor import Floor
from peers.lictor import Lictor, LictorWithAll
from peers.peer import Peer
from peers.pm2 import Pm2
from peers.runit import Runit
from peers.supervisord import Supervisord

Figures = dict[str, list[float]]

_ALL: tuple[type[Peer], ...] = (Floor, Lictor, LictorWithAll, Supervisord, Circus, Pm2, Runit)


class Contest:
    """The contestants that this machine has, over one build of the service."""

    def __init__(
        self, top: Path, program: Path, consul: str | None, only: Sequence[str] = ()
    ) -> None:
        self._top, self._program, self.consul = top, program, consul
        self._number = itertools.count()
        LictorWithAll.consul = consul
        self.rivals: list[type[Peer]] = []
        self.absent: list[str] = []
        for rival in _ALL:
            if only and rival.__name__.lower() not in only and rival is not Floor:
                continue
            why = rival.missing()
            if rival is LictorWithAll and consul is None:
                why = "there is no Consul program"
            if why is None:
                self.rivals.append(rival)
            else:
                self.absent.append(f"{rival.title}: left out, {why}.")
        self._versions = {rival.title: rival.version() for rival in self.rivals}
        self.floor = Floor.title

    def label(self, title: str) -> str:
        """The name with its version."""
        return f"{title} {self._versions.get(title, '')}".strip()

    @contextlib.contextmanager
    def running(self, rival: type[Peer], count: int) -> Iterator[Peer]:
        """One contestant from its exec on; ended and cleared away when the block ends."""
        peer = rival(self._top / f"r{next(self._number)}", self._program, count)
        peer.begin()
        try:
            yield peer
        finally:
            peer.end()
            shutil.rmtree(peer.folder, ignore_errors=True)

    @contextlib.contextmanager
    def all_running(self, count: int, rivals: Sequence[type[Peer]] = ()) -> Iterator[list[Peer]]:
        """All contestants at once, each with all its services running."""
        with contextlib.ExitStack() as stack:
            peers = []
            for rival in rivals or self.rivals:
                peer = stack.enter_context(self.running(rival, count))
                peer.all_running()
                peers.append(peer)
            for peer in peers:
                if isinstance(peer, Lictor):
                    peer.all_ready()
            yield peers

    @staticmethod
    def settle(seconds: float) -> None:
        """Let what was begun come to rest."""
        time.sleep(seconds)

    @staticmethod
    def say(text: str) -> None:
        """Progress, on stderr."""
        print(text, file=sys.stderr, flush=True)


def median_spread(values: Sequence[float], unit: float = 1000.0) -> str:
    """`median (min-max)`, in milliseconds unless told otherwise."""
    shown = (statistics.median(values), min(values), max(values))
    digits = 0 if shown[0] * unit >= 100 else 1 if shown[0] * unit >= 10 else 2
    low, high = (f"{value * unit:.{digits}f}" for value in shown[1:])
    return f"{shown[0] * unit:.{digits}f} ({low}–{high})"
