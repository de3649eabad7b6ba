"""The observed driver looks and never touches."""

from __future__ import annotations

import asyncio

from lictor.core.drivers.observed import ObservedDriver
from lictor.core.drivers.tree import boot_id
from lictor.core.model.spec import StopSpec
from lictor.core.model.state import Exit, Identity


async def test_an_observed_service_has_no_process_and_does_not_end_by_itself(spec):
    driver = ObservedDriver()
    one = spec((), driver="observed")
    running = await driver.start(one)
    assert driver.kind == "observed"
    assert running.identity == Identity(0, 0, boot_id())
    assert driver.log_path(one) is None
    waiting = asyncio.create_task(running.wait())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    report = await asyncio.wait_for(running.stop(StopSpec(timeout=600)), 5)
    assert (report.killed, report.survivors) == (False, 0)
    assert await waiting == Exit()


async def test_jobs_of_an_observed_service_are_not_run(spec, tmp_path):
    target = tmp_path / "made"
    assert (await ObservedDriver().run_job(spec(()), ("touch", str(target)))).clean
    assert not target.exists()


async def test_observing_goes_on_after_the_agent_but_not_after_a_boot(spec):
    driver = ObservedDriver("this-boot")
    assert driver.recover(spec(()), Identity(0, 0, "this-boot")) is not None
    assert driver.recover(spec(()), Identity(0, 0, "another-boot")) is None
    assert driver.recover(spec(()), Identity(7, 7, "this-boot")) is None
    assert driver.recover(spec(()), None) is None
