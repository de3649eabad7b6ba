"""Tells the host's own supervisor how this agent is: sd_notify(3), without a library.

systemd wants to know when the agent is ready, what it is doing, and every few seconds that it still
works; all of that is one datagram each to `$NOTIFY_SOCKET`. The sign of life is sent by the event
loop itself, never by a thread, because a loop that is stuck is what it must give away. Without
`$NOTIFY_SOCKET` nothing here runs at all. What this never does: fail, block, or decide anything;
a supervisor that does not listen is no reason for the agent to behave differently.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping

#: Seconds for which systemd is asked to wait longer while services still stop, and how often.
_EXTENSION, _EXTEND_EVERY = 30.0, 5.0
#: Seconds between two STATUS lines: a start of 200 services is not worth 200 datagrams.
_STATUS_PAUSE = 0.5


class Notifier:
    """One way to the supervisor. `watchdog` is its WATCHDOG_USEC in seconds, None without one."""

    def __init__(self, address: str, watchdog: float | None = None) -> None:
        # A leading @ stands for the NUL of an abstract socket (sd_notify(3)).
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog = watchdog
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    @classmethod
    def from_environment(cls, env: MutableMapping[str, str]) -> Notifier | None:
        """What the environment offers, taken out of it: no child may speak in our name."""
        address = env.pop("NOTIFY_SOCKET", "")
        pid, usec = env.pop("WATCHDOG_PID", ""), env.pop("WATCHDOG_USEC", "")
        if not address.startswith(("/", "@")):
            return None
        ours = pid in {"", str(os.getpid())}  # sd_watchdog_enabled(3)
        known = ours and usec.isdigit() and int(usec) > 0
        return cls(address, int(usec) / 1e6 if known else None)

    def send(self, **fields: str | int) -> bool:
        """Send `NAME=value` lines in one datagram; False if nobody took it."""
        text = "\n".join(f"{name}={_line(value)}" for name, value in fields.items())
        try:
            self._socket.sendto(text.encode(), self._address)
        except OSError:
            return False
        return True

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """The time in which the configuration is read again, as systemd wants it announced."""
        # MONOTONIC_USEC belongs to the protocol since systemd 253 (Type=notify-reload).
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self.send(RELOADING=1, MONOTONIC_USEC=now)
        try:
            yield
        finally:
            self.send(READY=1)

    def close(self) -> None:
        """Close the socket; nothing can be said afterwards."""
        self._socket.close()


def _line(value: str | int) -> str:
    return str(value).replace("\n", " ")


class Herald:
    """Keeps the supervisor informed from READY to the end.

    `status` makes its one sentence; `change(limit)` waits until something changed, at most `limit`
    seconds; `ending` says whether the agent's end has begun.
    """

    def __init__(
        self,
        notifier: Notifier,
        *,
        status: Callable[[], str],
        change: Callable[[float | None], Awaitable[object]],
        ending: Callable[[], bool],
    ) -> None:
        self._notifier = notifier
        self._status = status
        self._change = change
        self._ending = ending
        self._pulse: asyncio.TimerHandle | None = None
        self._said = ""
        self._stopping = False
        self._extended = 0.0

    async def attend(self) -> None:
        """Say that it is ready, and from then on what it does, until cancelled."""
        self._said = self._status()
        while not self._notifier.send(READY=1, STATUS=self._said):  # noqa: ASYNC110 - none rings
            await asyncio.sleep(0.2)  # its queue is full for a moment: this one must arrive
        self._beat()
        try:
            while True:
                await self._change(_EXTEND_EVERY if self._stopping else None)
                self._tell()
                await asyncio.sleep(_STATUS_PAUSE)
                self._tell()
        finally:
            if self._pulse is not None:
                self._pulse.cancel()

    def stopping(self) -> None:
        """Say, once, that the end has begun."""
        if not self._stopping:
            self._stopping = self._notifier.send(STOPPING=1)

    def _beat(self) -> None:
        """The sign of life, at half of the time that the supervisor allows (sd_notify(3))."""
        if self._notifier.watchdog is None:
            return
        self._notifier.send(WATCHDOG=1)
        loop = asyncio.get_running_loop()
        self._pulse = loop.call_later(self._notifier.watchdog / 2, self._beat)

    def _tell(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._ending():
            self.stopping()
        if self._stopping and now - self._extended >= _EXTEND_EVERY:
            # Each service has its own time to end; as long as this loop lives, so must we.
            self._extended = now
            self._notifier.send(EXTEND_TIMEOUT_USEC=int(_EXTENSION * 1e6))
        news = self._status()
        if news != self._said and self._notifier.send(STATUS=news):
            self._said = news
