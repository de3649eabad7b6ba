"""What other nodes are told of the services here, also when Consul loses it in between."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from lictor.core.errors import ConsulUnreachable, Forbidden
from lictor.core.model.names import ServiceKey
from lictor.core.runtime.registry.publisher import Publisher
from tests.core.build import key
from tests.core.virtual import virtual

PIPER, VOSK = key("piper"), key("vosk")


class Sink:
    """A Consul that may be emptied, may be away, and may take its time."""

    def __init__(self) -> None:
        self.there: dict[ServiceKey, object] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.forgotten = 0
        self.away = False
        self.forbidden = False

    async def publish(self, records: Mapping[ServiceKey, Mapping[str, object] | None]) -> None:
        if self.away:
            raise ConsulUnreachable("nobody there")
        if self.forbidden:
            raise Forbidden("the rule is missing")
        self.there |= {name: dict(record or {}) for name, record in records.items()}
        await self.gate.wait()

    def forget(self) -> None:
        self.forgotten += 1

    async def published(self) -> frozenset[ServiceKey]:
        return frozenset(self.there)


@virtual
async def test_what_did_not_change_is_not_written_again():
    sink = Sink()
    publisher = Publisher(lambda name: {"name": str(name)})
    publisher.touch(PIPER)
    assert await publisher.flush(sink) is None
    sink.there.clear()
    publisher.touch(PIPER)
    assert await publisher.flush(sink) is None
    assert sink.there == {}
    publisher.begin_anew(sink, PIPER, VOSK)
    assert await publisher.flush(sink) is None
    assert set(sink.there) == {PIPER, VOSK}
    assert sink.forgotten == 1


@virtual
async def test_a_write_that_was_under_way_when_consul_was_emptied_is_done_again():
    sink = Sink()
    publisher = Publisher(lambda name: {"name": str(name)})
    publisher.touch(PIPER)
    sink.gate.clear()
    writing = asyncio.create_task(publisher.flush(sink))
    await asyncio.sleep(0.1)
    sink.there.clear()  # written, and lost before the answer came
    publisher.begin_anew(sink, PIPER)
    sink.gate.set()
    await writing
    assert await publisher.flush(sink) is None
    assert set(sink.there) == {PIPER}


@virtual
async def test_what_could_not_be_written_is_kept_for_the_next_try():
    sink = Sink()
    publisher = Publisher(lambda name: {"name": str(name)})
    sink.away = True
    publisher.touch(PIPER)
    assert isinstance(await publisher.flush(sink), ConsulUnreachable)
    sink.away = False
    assert await publisher.flush(sink) is None
    assert set(sink.there) == {PIPER}


@virtual
async def test_one_document_tries_whether_consul_is_back_and_then_all_follow_at_once():
    sink, names = Sink(), [key(f"s{number}") for number in range(50)]
    rendered: list[ServiceKey] = []

    def document(name: ServiceKey) -> dict[str, object]:
        rendered.append(name)
        return {"name": str(name)}

    publisher = Publisher(document)
    sink.away = True
    publisher.touch(*names)
    task = asyncio.create_task(publisher.keep_publishing(sink))
    await asyncio.sleep(0.5)
    assert len(rendered) == 50  # who is told of an outage first has to try
    await asyncio.sleep(60)
    tries = len(rendered) - 50
    assert 5 <= tries <= 15
    sink.away = False
    await asyncio.sleep(10.1)
    assert set(sink.there) == set(names)
    task.cancel()


@virtual
async def test_a_missing_rule_is_told_once_and_its_return_too(caplog):
    caplog.set_level("INFO")
    sink, publisher = Sink(), Publisher(lambda name: {"name": str(name)})
    sink.forbidden = True
    publisher.touch(PIPER)
    task = asyncio.create_task(publisher.keep_publishing(sink))
    await asyncio.sleep(60)
    assert publisher.refused == "the rule is missing"
    sink.forbidden = False
    await asyncio.sleep(20)
    task.cancel()
    assert publisher.refused == ""
    assert caplog.messages == [
        "actual state is not published: the rule is missing",
        "actual state is published again",
    ]


@virtual
async def test_an_outage_is_for_others_to_tell(caplog):
    sink, publisher = Sink(), Publisher(lambda name: {"name": str(name)})
    sink.away = True
    publisher.touch(PIPER)
    task = asyncio.create_task(publisher.keep_publishing(sink))
    await asyncio.sleep(60)
    task.cancel()
    assert (publisher.refused, caplog.messages) == ("", [])
