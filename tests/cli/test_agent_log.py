"""The agent's own log: in bursts, in order, with the time of each line; what is bad at once."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from lictor.cli.wiring.agent_log import Gathering, _stamped


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@pytest.fixture
def kept():
    return Kept()


@pytest.fixture
def log(kept):
    logger = logging.getLogger("of this test")
    logger.setLevel(logging.INFO)
    gathering = Gathering(kept)
    logger.addHandler(gathering)
    yield logger
    logger.removeHandler(gathering)


async def test_lines_of_one_burst_go_out_together_and_in_order(log, kept):
    log.info("one")
    log.warning("two")
    assert kept.said == []
    await asyncio.sleep(0.1)
    assert kept.said == ["one", "two"]
    log.info("three")
    await asyncio.sleep(0.1)
    assert kept.said == ["one", "two", "three"]


async def test_an_error_is_not_kept_waiting_and_overtakes_nothing(log, kept):
    log.info("before")
    log.error("broken")
    assert kept.said == ["before", "broken"]


def test_without_a_loop_nothing_waits(log, kept):
    log.info("at the very end")
    assert kept.said == ["at the very end"]


async def test_another_thread_waits_for_no_loop(log, kept):
    speaking = threading.Thread(target=log.info, args=("from elsewhere",))
    speaking.start()
    speaking.join()
    assert kept.said == ["from elsewhere"]


def test_a_line_has_the_time_at_which_it_was_said_and_not_that_of_its_burst():
    record = logging.makeLogRecord({"msg": "earlier", "created": 1.5})
    event = _stamped(None, "info", {"event": "earlier", "_record": record})
    assert event["timestamp"] == "1970-01-01T00:00:01.500000Z"
