"""The floor as a contestant; see `floor_daemon.py`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from peers.peer import Peer


class Floor(Peer):
    title = "floor (smallest pidfd loop in Python)"

    def prepare(self) -> None:
        lines = ["\t".join(argv) for argv in self.commands.values()]
        (self.folder / "services").write_text("\n".join(lines) + "\n")

    def argv(self) -> Sequence[str | Path]:
        daemon = Path(__file__).with_name("floor_daemon.py")
        return [sys.executable, "-S", "-E", daemon, self.folder / "services"]
