"""Server-sent events to one caller: bounded, told the truth when slow, ended when it must be.

A page that is left open must cost next to nothing and must never hold up anything: each caller has a
mailbox of its own. When it is full the oldest events go, and a `dropped` event says how many. How
many streams one person and all together may have is limited (429, 503). A place is taken when the
answer begins and given back when it ends, in one function, so that a request which was aborted
before cannot keep one. Each event is one JSON value on one line: nothing that a service prints can
begin another event (WHATWG HTML, 9.2.6). Nothing here knows what the events are about.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request
from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lictor.core.errors import LictorError
from lictor.core.model.reason import Reason, because
from lictor.core.worded import worded
from lictor.web import problems
from lictor.web.auth.errors import DoorError
from lictor.web.auth.gate import Doorkeeper, Person

KEEP_ALIVE = 15.0  # seconds of silence until a comment is sent
_RECHECK = 4.0  # seconds between two looks whether the person may still come in
_MAILBOX = 500  # events, and
_MAILBOX_BYTES = 512 * 1024
_AT_ONCE = 64 * 1024  # bytes that are sent in one piece
_COMMENT = b": keep-alive\n\n"
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would hold events back
}

#: Streams at a time.
MOST = 1000
MOST_OF_ONE = 750


class TooManyStreams(DoorError):
    """429 for one person's, 503 for all together."""

    code = "streams.too_many"
    status = 429


def event(kind: str, value: Any, mark: str | None = None) -> bytes:
    """One event: its kind, one JSON value, and the id with which a caller may resume."""
    return format_sse_event(data_str=json.dumps(value, ensure_ascii=True), event=kind, id=mark)


class Mailbox:
    """What one caller has not been sent yet. `dropped` counts what was lost since the last look."""

    def __init__(self) -> None:
        self._items: deque[bytes] = deque()
        self._size = 0
        self._event = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self.dropped = 0
        self.ended = False

    def put(self, item: bytes) -> None:
        """Add an event; the oldest go when there is no room."""
        self._items.append(item)
        self._size += len(item)
        while len(self._items) > 1 and (len(self._items) > _MAILBOX or self._size > _MAILBOX_BYTES):
            self._size -= len(self._items.popleft())
            self.dropped += 1
        if len(self._items) > _MAILBOX // 2 or self._size > _MAILBOX_BYTES // 2:
            self._room.clear()
        self._event.set()

    def end(self) -> None:
        """What is in it is still sent, then the stream ends."""
        self.ended = True
        self._event.set()

    async def room(self, limit: float) -> None:
        """Wait until it is half empty, but no longer than `limit` seconds."""
        if not self._room.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit):
                    await self._room.wait()

    async def take(self, limit: float) -> bytes:
        """What there is, as one piece; b"" when nothing came within `limit` seconds."""
        if not self._items and not self.ended:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit):
                    await self._event.wait()
        self._event.clear()
        pieces: list[bytes] = []
        if self.dropped:
            pieces.append(event("dropped", {"count": self.dropped}))
            self.dropped = 0
        size = 0
        while self._items and size < _AT_ONCE:
            item = self._items.popleft()
            size += len(item)
            pieces.append(item)
        self._size -= size
        if self._items:
            self._event.set()
        if len(self._items) <= _MAILBOX // 2 and self._size <= _MAILBOX_BYTES // 2:
            self._room.set()
        return b"".join(pieces)


class Streams:
    """How many streams there are, whose, and their end."""

    def __init__(self) -> None:
        self._of: Counter[str] = Counter()
        self._boxes: set[Mailbox] = set()
        self._closed = False

    @property
    def count(self) -> int:
        """How many streams are open now."""
        return len(self._boxes)

    def enter(self, person: Person) -> Mailbox:
        """A place for one more stream; raises `TooManyStreams`."""
        if self._closed:
            raise _refused(because("agent.stopping"), 503)
        if self._of[person.name] >= MOST_OF_ONE:
            many = because("streams.most_of_one", user=person.name, most=MOST_OF_ONE)
            raise _refused(many, 429)
        if len(self._boxes) >= MOST:
            raise _refused(because("streams.most", most=MOST), 503)
        box = Mailbox()
        self._of[person.name] += 1
        self._boxes.add(box)
        return box

    def leave(self, person: Person, box: Mailbox) -> None:
        """Give the place back."""
        self._boxes.discard(box)
        self._of[person.name] -= 1
        if self._of[person.name] <= 0:
            del self._of[person.name]

    def close(self) -> None:
        """End all of them, and let nobody in any more."""
        self._closed = True
        for box in self._boxes:
            box.end()


def _refused(why: Reason, status: int) -> TooManyStreams:
    error = worded(TooManyStreams, why, hint=because("next.fewer_streams"))
    error.status = status
    error.headers = {"Retry-After": "5"}
    return error


Feed = Callable[[Mailbox], Awaitable[None]]


class EventStream(Response):
    """The answer: `feed` fills the mailbox until the stream ends; it is cancelled then."""

    media_type = EventSourceResponse.media_type

    def __init__(self, request: Request, person: Person, feed: Feed) -> None:
        super().__init__(headers=_HEADERS)
        self.body = b""
        del self.headers["content-length"]
        self._streams: Streams = request.app.state.streams
        self._keeper: Doorkeeper = request.app.state.doorkeeper
        self._person = person
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until somebody has had enough."""
        try:
            box = self._streams.enter(self._person)
        except TooManyStreams as error:
            await problems.of_error(error)(scope, receive, send)
            return
        helpers: list[asyncio.Future[None]] = []
        try:
            helpers.append(asyncio.ensure_future(self._feeding(box)))
            helpers.append(asyncio.ensure_future(_until_gone(receive, box)))
            start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await send(start)
            # Opens the stream through proxies that wait for a first byte.
            await send(_piece(b"retry: 2000\n\n"))
            await self._sending(box, send)
            await send(_piece(b"", more=False))
        finally:
            self._streams.leave(self._person, box)
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    async def _sending(self, box: Mailbox, send: Send) -> None:
        loop = asyncio.get_running_loop()
        quiet = looked = loop.time()
        while True:
            piece = await box.take(_RECHECK)
            now = loop.time()
            if now - looked >= _RECHECK:
                looked = now
                if not self._keeper.still(self._person):
                    return
            if not piece:
                if box.ended:
                    return
                if now - quiet < KEEP_ALIVE:
                    continue
                piece = _COMMENT
            quiet = now
            await send(_piece(piece))

    async def _feeding(self, box: Mailbox) -> None:
        try:
            await self._feed(box)
        except LictorError as error:
            box.put(event("problem", problems.told(error)))
        finally:
            box.end()


def _piece(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def _until_gone(receive: Receive, box: Mailbox) -> None:
    """Notice a caller who hung up: sending to them would not fail."""
    while (await receive())["type"] != "http.disconnect":
        pass
    box.end()
