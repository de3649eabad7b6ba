"""Telling a service that is slow from an agent that stood still.

A stopped agent (SIGSTOP, a debugger, a host that was suspended) finds every wait over when it goes
on: questions have timed out that the service answered long ago, and windows have passed in which
nobody looked. Whoever counts such time against a service restarts a whole host at once. So time is
measured around each wait, and what is more than the wait itself could take is the agent's own.
"""

from __future__ import annotations

import asyncio

from lictor.core.model.spec import ProbeSpec
from lictor.core.ports import Clock, Prober, ProbeResult

#: Seconds by which a wait may be late on a busy host before it means that we stood still.
TOLERANCE = 1.0

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0  # seconds between two questions of `until_it_passes`


def stood_still(clock: Clock, since: float, expected: float) -> float:
    """For how many seconds we stood still in a wait that began at `since`; 0 if we did not.

    `expected` is the longest that the wait itself takes, in seconds.
    """
    late = clock.now() - since - expected
    return late if late > TOLERANCE else 0.0


async def ask(prober: Prober, clock: Clock, probe: ProbeSpec) -> ProbeResult:
    """Ask once; asked again if it failed while we stood still."""
    begun = clock.now()
    result = await prober.probe(probe)
    if result.passed or not stood_still(clock, begun, probe.timeout):
        return result
    return await prober.probe(probe)


async def live_through(clock: Clock, seconds: float) -> None:
    """Let so many seconds pass; once more if we stood still, and with us perhaps the whole host."""
    begun = clock.now()
    await asyncio.sleep(seconds)
    if stood_still(clock, begun, seconds):
        await asyncio.sleep(seconds)


async def until_it_passes(
    prober: Prober, clock: Clock, probe: ProbeSpec, deadline: float
) -> ProbeResult:
    """Ask until the first pass or the deadline (seconds of `clock`); returns the last answer.

    The deadline moves by whatever time we stood still.
    """
    pause = _FIRST_PAUSE
    while True:
        begun = clock.now()
        result = await ask(prober, clock, probe)
        deadline += stood_still(clock, begun, probe.timeout)
        if result.passed or clock.now() >= deadline:
            return result
        begun = clock.now()
        await asyncio.sleep(pause)
        deadline += stood_still(clock, begun, pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
