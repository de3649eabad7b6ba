"""The agent's own log, on stderr: lines for a person on a terminal, JSON for anything else.

structlog formats it, but is loaded only after the first services were started; what was said until
then waits in memory. Later lines wait a moment too: to format one costs more than all else that a
change of state does, and a stop of many services must reach the last of them first. Always English:
it is for searching.
"""

from __future__ import annotations

import asyncio
import logging
import logging.handlers
import os
import sys
import time
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any

_GATHER = 0.02  # seconds that a line may wait for others


class Gathering(logging.handlers.MemoryHandler):
    """Passes lines on to `target` in bursts; errors, and lines that come without a loop, at once."""

    def __init__(self, target: logging.Handler) -> None:
        super().__init__(10_000, flushLevel=logging.ERROR, target=target)
        self._due = False

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line, and see to it that it goes out soon."""
        super().emit(record)
        if self.buffer and not self._due:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:  # another thread, or the loop is over
                self.flush()
                return
            self._due = True
            loop.call_later(_GATHER, self._flush_due)

    def _flush_due(self) -> None:
        self._due = False
        self.flush()


def begin() -> logging.handlers.MemoryHandler:
    """Collect what is logged until `finish`."""
    # Nobody prints these, and finding them out is half the cost of a line
    # (https://docs.python.org/3/howto/logging.html#optimization).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    vars(logging)["_srcfile"] = None
    waiting = logging.handlers.MemoryHandler(10_000, flushLevel=logging.CRITICAL + 1)
    root = logging.getLogger()
    root.handlers[:] = [waiting]
    root.setLevel(os.environ.get("LICTOR_LOG", "INFO").upper())
    return waiting


def finish(waiting: logging.handlers.MemoryHandler) -> None:
    """Format with structlog from now on, beginning with what waited."""
    import structlog

    person = sys.stderr.isatty()
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        _stamped_for_a_person if person else _stamped,
    ]
    renderer: list[Any] = (
        [structlog.dev.ConsoleRenderer(colors="NO_COLOR" not in os.environ, pad_event_to=0)]
        if person
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [Gathering(handler)]
    for noisy in ("asyncio", "aiohttp", "uvicorn", "uvicorn.error", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    waiting.setTarget(handler)
    waiting.flush()
    waiting.close()


# (structlog's own stamp is the moment of formatting)


def _stamped(_logger: object, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    at = datetime.fromtimestamp(event["_record"].created, UTC)
    event["timestamp"] = at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return event


def _stamped_for_a_person(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> Mapping[str, Any]:
    event["timestamp"] = time.strftime("%H:%M:%S", time.localtime(event["_record"].created))
    return event
