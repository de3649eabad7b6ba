"""A wall clock that tests can move, for one program: libfaketime, which leaves monotonic time alone.

It exists because the host's clock is everybody's, and setting it would need root. The program must be
started with `env`; it reads the file before each use of the clock.
"""

from __future__ import annotations

from pathlib import Path

from tests.support.tools import missing


class WallClock:
    """The wall clock of one program, moved by libfaketime; its monotonic clock is the real one."""

    def __init__(self, folder: Path) -> None:
        found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        if not found:
            missing("libfaketime")
        self._file = folder / "faketime"
        self.env = {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.jump(0)

    def jump(self, seconds: int) -> None:
        """From now on it is off by so much."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.replace(self._file)
