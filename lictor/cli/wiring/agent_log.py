"""The agent's own log, on stderr: lines for a person on a terminal, JSON for anything else.

structlog formats it, but is loaded only after the first services were started; what was said until
then waits in memory. Always English: it is for searching.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import sys
from typing import Any


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
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if person else "iso", utc=not person),
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
    root.handlers[:] = [handler]
    for noisy in ("asyncio", "aiohttp", "uvicorn", "uvicorn.error", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    waiting.setTarget(handler)
    waiting.flush()
    waiting.close()
