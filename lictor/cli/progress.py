"""What a person sees while the agent works: one line per service, alive on a terminal.

On a terminal the lines are redrawn in place (glyph, word, time so far, the sentence, the last log
line) and taken away at the end, because the result follows. Elsewhere each change is one plain
line. All of it goes to stderr: it is talk, the result is the data.
"""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType
from typing import Any, Self

from lictor.cli.output import one_line, talk
from lictor.cli.paint import Cell, color_on, painted, state, watched, width
from lictor.cli.words import how_long, say, sentence


class Progress:
    """Shows the items of a waiting question. Give `item` and `tick` to `client.ask`."""

    def __init__(self) -> None:
        self._live = watched(sys.stderr)
        self._color = color_on(sys.stderr)
        self._rows: dict[str, tuple[dict[str, Any], float]] = {}
        self._drawn = 0

    def item(self, row: dict[str, Any]) -> None:
        """A service has news."""
        name = str(row.get("service", "?"))
        before = self._rows.get(name)
        self._rows[name] = (row, time.monotonic())
        if self._live:
            self.tick()
        elif before is None or _gist(before[0]) != _gist(row):
            talk(_plain(name, row))

    def tick(self) -> None:
        """Time has passed: the clocks in the lines move on."""
        if self._live and self._rows:
            self._draw(self._frame())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None
    ) -> None:
        """Take the lines away, unless the person interrupted: then they are the last word."""
        if self._live and kind is None:
            self._draw([])

    def _frame(self) -> list[str]:
        size = shutil.get_terminal_size()
        room = max(1, size.lines - 2)
        names = list(self._rows)
        shown = names if len(names) <= room else names[: room - 1]
        name_width = max(width(name) for name in shown)
        lines = [self._line(name, name_width, size.columns - 1) for name in shown]
        if len(shown) < len(names):
            lines.append(say("progress.more", count=len(names) - len(shown)))
        return lines

    def _line(self, name: str, name_width: int, columns: int) -> str:
        row, arrived = self._rows[name]
        look: Cell = state("phase", row.get("phase"))
        elapsed = row.get("elapsed")
        if isinstance(elapsed, (int, float)):
            elapsed = int(elapsed + time.monotonic() - arrived)
        parts = [how_long(elapsed), sentence(row), str(row.get("log") or "")]
        head = f"{name}{' ' * (name_width - width(name))}  "
        tail = one_line("  ".join(part for part in parts if part), columns - width(head) - 14)
        label = look.text + " " * max(0, 12 - width(look.text))
        return f"{head}{painted(label, look.style, color=self._color)}  {tail}"

    def _draw(self, lines: list[str]) -> None:
        up = f"\x1b[{self._drawn}F" if self._drawn else ""
        body = "".join(f"\x1b[2K{line}\n" for line in lines)
        sys.stderr.write(f"{up}{body}\x1b[J")
        sys.stderr.flush()
        self._drawn = len(lines)


def _gist(row: dict[str, Any]) -> tuple[object, object]:
    return row.get("phase"), row.get("sentence")


def _plain(name: str, row: dict[str, Any]) -> str:
    look = state("phase", row.get("phase"))
    told = sentence(row)
    return one_line(f"{name}: {look.text}{' - ' if told else ''}{told}", 10_000)
