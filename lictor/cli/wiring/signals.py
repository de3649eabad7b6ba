"""What the agent's process does when it is signalled.

The handlers are Python's own, as `asyncio.Runner` has them, and not the loop's: a loop that closes
gives every signal it took its default action back, and from then on until the process is gone one
more Ctrl-C would make an orderly end a death by signal.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable

from lictor.core.runtime.agent import Agent
from lictor.core.runtime.host import own

_SAME_KEYPRESS = 0.3  # seconds
_OURS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def take(agent: Agent, on_term: str | None, hang_up: Callable[[], None]) -> None:
    """INT ends the services (twice: at once), TERM does as `on_term` or the config says.

    Call it in the main thread, in the loop that is to do the work.
    """
    loop = asyncio.get_running_loop()
    interrupted = 0.0

    def interrupt() -> None:
        nonlocal interrupted
        now = loop.time()
        # A terminal and a parent may each pass on the one Ctrl-C that a person pressed.
        if interrupted and now - interrupted > _SAME_KEYPRESS:
            agent.kill_all()
        interrupted = interrupted or now
        agent.stop(keep=False)

    def terminate() -> None:
        keep = (on_term or agent.config.agent.on_term) == "keep"  # as the last reload says
        # With pid 1 its whole container ends: then an orderly end is the better one.
        agent.stop(keep=keep and not own.is_init())

    for number, action in zip(_OURS, (interrupt, terminate, hang_up), strict=True):
        signal.signal(number, _in_the_loop(loop, action))


def ignore() -> None:
    """From here on nothing interrupts the end of this process; only KILL does."""
    for number in _OURS:
        signal.signal(number, signal.SIG_IGN)


def _in_the_loop(
    loop: asyncio.AbstractEventLoop, action: Callable[[], None]
) -> Callable[[int, object], None]:
    def handle(_number: int, _frame: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: there is nothing to do
            loop.call_soon_threadsafe(action)

    return handle
