"""An endpoint that is read every few seconds and seldom answers anything new.

Consul says for `agent/services` and `agent/checks` neither an index nor a validator, so they cannot
be asked "only if it changed". But it writes its JSON in the order of the ids (Go sorts the keys of a
map), so the same content comes as the same text; then it need not be decoded, checked and made into
our nouns once more, which costs many times as much as comparing it. It never guesses: the whole text
is compared, and one that could not be understood is not remembered.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from lictor.consul_integration.transport import Answer, Transport
from lictor.core.errors import Garbage, NotFound
from lictor.core.model.reason import because
from lictor.core.worded import worded

T = TypeVar("T")


class Repeated(Generic[T]):
    """One GET, of an object whose members are objects, whose meaning is worked out when it differs.

    `make` gets the member's name and the member. What `read` returns is shared between the readers:
    nobody may change it.
    """

    def __init__(
        self, transport: Transport, path: str, make: Callable[[str, Mapping[str, Any]], T]
    ) -> None:
        self._transport = transport
        self._path = path
        self._make = make
        self._text: str | None = None
        self._known: Mapping[str, T] = {}

    async def read(self) -> Mapping[str, T]:
        """What Consul says now, by name; the very same mapping as long as it says the same.

        Raises as `Transport.send` does, and `NotFound` where Consul has no such endpoint.
        """
        known: Mapping[str, T] = await self._transport.send(
            "GET", self._path, callback=self._meaning
        )
        return known

    def _meaning(self, answer: Answer) -> Mapping[str, T]:
        if answer.code != 200:
            raise worded(NotFound, because("reply.not_found", path=self._path))
        if answer.body != self._text:
            self._known = {
                name: self._make(name, member)
                for name, member in self._members(json.loads(answer.body))
            }
            self._text = answer.body
        return self._known

    def _members(self, said: object) -> list[tuple[str, Mapping[str, Any]]]:
        if not isinstance(said, dict) or not all(isinstance(one, dict) for one in said.values()):
            raise worded(Garbage, because("reply.not_objects", what=self._path))
        return list(said.items())
