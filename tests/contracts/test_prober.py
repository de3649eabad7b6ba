"""`ports.Prober`: an answer within the time allowed, and never an exception."""

from __future__ import annotations

import asyncio
import time

import pytest

from lictor.core.model.spec import ProbeSpec
from lictor.core.probes.prober import LictorProber
from lictor.core.testing import FakeProber
from tests.support.liar import answer, liar


@pytest.fixture(params=["real", "fake"])
async def ask(request):
    """Probe something that is fine, wrong or silent."""
    if request.param == "fake":
        prober = FakeProber()

        async def fake(how, **fields):
            prober.takes = 600.0 if how == "silent" else 0.0
            prober.say("http://x", passed=how == "fine", output=how)
            return await prober.probe(ProbeSpec("http", "http://x", **fields))

        yield fake
        return
    prober = LictorProber()
    answers = {"fine": answer("ok"), "wrong": answer("no", status="500 No"), "silent": None}

    async def real(how, **fields):
        async with liar(lambda _: answers[how]) as service:
            return await prober.probe(ProbeSpec("http", service.url, **fields))

    yield real
    await prober.close()


async def test_a_service_that_works_passes(ask):
    assert (await ask("fine")).passed


async def test_a_service_that_says_no_fails_and_the_output_says_so_in_one_line(ask):
    result = await ask("wrong")
    assert not result.passed
    assert result.output
    assert "\n" not in result.output


async def test_a_silent_service_fails_when_its_time_is_over(ask):
    begun = time.monotonic()
    result = await ask("silent", timeout=0.2)
    assert not result.passed
    assert result.output
    assert 0.15 < time.monotonic() - begun < 10


async def test_a_probe_can_be_cancelled(ask):
    probing = asyncio.create_task(ask("silent", timeout=60.0))
    await asyncio.sleep(0.1)
    probing.cancel()
    await asyncio.wait([probing], timeout=10)
    assert probing.cancelled()
