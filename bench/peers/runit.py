"""runit: runsvdir, and a runsv process for each service. In C, and the nearest peer in speed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from peers.peer import BENCH, Peer

_BIN = BENCH / "runit" / "usr" / "bin"


class Runit(Peer):
    title = "runit"
    stop_signal = signal.SIGHUP  # TERM would end runsvdir alone

    @classmethod
    def missing(cls) -> str | None:
        return None if (_BIN / "runsvdir").exists() else "runit is not installed"

    @classmethod
    def version(cls) -> str:
        return next((BENCH / "deb").glob("runit_*.deb")).name.split("_")[1]

    def prepare(self) -> None:
        for name, argv in self.commands.items():
            run = self.folder / "services" / name / "run"
            run.parent.mkdir(parents=True)
            run.write_text(f"#!/bin/sh\nexec {' '.join(argv)}\n")
            run.chmod(0o755)

    def env(self) -> Mapping[str, str]:
        return {"PATH": f"{_BIN}:{os.environ['PATH']}"}

    def argv(self) -> Sequence[str | Path]:
        return [_BIN / "runsvdir", self.folder / "services"]

    def status(self) -> Callable[[], object]:
        argv = [_BIN / "sv", "status", *self._services()]
        return lambda: subprocess.run(argv, capture_output=True, check=True)

    def clear(self) -> None:
        # A runsv outlives a runsvdir that was killed; the next one's runsv only finds its lock held.
        argv = [_BIN / "sv", "exit", *self._services()]
        subprocess.run(argv, capture_output=True, check=False, timeout=20.0)
        super().clear()

    def _services(self) -> list[Path]:
        return [self.folder / "services" / name for name in self.names]
