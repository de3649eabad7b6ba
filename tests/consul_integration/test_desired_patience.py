"""How long an edit waits for a Consul that is slow, and for one that is mute; in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from lictor.consul_integration.client import KvItem
from lictor.consul_integration.desired import KvDesired
from lictor.core.errors import Conflict
from lictor.core.model.names import ServiceKey
from lictor.core.ports import DesiredChange
from tests.core.virtual import virtual

PIPER = ServiceKey("piper")
STOP = DesiredChange(state="stopped")


class SlowClient:
    """Answers each question after a second; `lost` compare-and-sets lose, and one may hang."""

    def __init__(self, *, lost: int, hangs: int | None = None) -> None:
        self.lost, self.hangs, self.puts = lost, hangs, 0

    async def kv_get(self, path):
        await asyncio.sleep(1)
        return KvItem(path, b"", self.puts + 1)

    async def kv_put(self, _path, _text, *, cas):
        assert cas == self.puts + 1  # each try is over what was read for it
        self.puts += 1
        await asyncio.sleep(3600 if self.puts == self.hangs else 1)
        return self.puts > self.lost


def over(client: SlowClient) -> KvDesired:
    return KvDesired(client, "host1", params_of=lambda _: {})


@virtual
async def test_an_edit_that_loses_again_and_again_has_its_time_for_each_try():
    client = SlowClient(lost=4)
    await over(client).change(PIPER, STOP, within=3)
    assert client.puts == 5


@virtual
async def test_one_that_loses_always_is_a_conflict_however_slow_consul_is():
    with pytest.raises(Conflict):
        await over(SlowClient(lost=100)).change(PIPER, STOP, within=3)


@pytest.mark.parametrize("hangs", [1, 3])
@virtual
async def test_a_consul_that_falls_silent_is_given_up_after_the_time_of_one_try(hangs):
    client, loop = SlowClient(lost=hangs - 1, hangs=hangs), asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(TimeoutError):
        await over(client).change(PIPER, STOP, within=3)
    assert 3 <= loop.time() - began <= 3 * hangs  # not eight times as long
    assert client.puts == hangs


@virtual
async def test_without_a_time_an_edit_waits_as_long_as_its_client_does():
    client, loop = SlowClient(lost=0, hangs=1), asyncio.get_running_loop()
    began = loop.time()
    await over(client).change(PIPER, STOP)
    assert loop.time() - began > 3600
