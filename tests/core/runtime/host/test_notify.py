"""What systemd is told, and when: against a socket of its kind."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from lictor.core.runtime.bell import Bell
from lictor.core.runtime.host.notify import Herald, Notifier
from tests.support.notified import NotifySocket, abstract_name
from tests.support.patience import until


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path):
    address = str(tmp_path / "notify") if request.param == "path" else abstract_name()
    receiver = NotifySocket(address)
    yield receiver
    receiver.close()


@pytest.fixture
def notifier(systemd):
    made = Notifier(systemd.address, watchdog=0.2)
    yield made
    made.close()


class Told:
    """What a herald asks about."""

    def __init__(self) -> None:
        self.bell, self.words, self.over = Bell(), "Ready: 0 of 1 services.", False

    def herald(self, notifier: Notifier) -> Herald:
        return Herald(
            notifier,
            status=lambda: self.words,
            change=self.bell.wait,
            ending=lambda: self.over,
        )


def test_fields_arrive_in_one_datagram_and_a_line_break_cannot_forge_another(systemd, notifier):
    assert notifier.send(READY=1, STATUS="fine\nSTOPPING=1")
    assert systemd.hear() == [{"READY": "1", "STATUS": "fine STOPPING=1"}]


def test_nobody_who_listens_is_no_error(tmp_path):
    notifier = Notifier(str(tmp_path / "nobody"))
    assert notifier.send(READY=1) is False
    notifier.close()


def test_the_environment_is_taken_and_left_clean_for_children():
    env = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}
    found = Notifier.from_environment(env)
    assert (found.watchdog, env) == (3.0, {})
    found.close()


@pytest.mark.parametrize(
    "env",
    [
        {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"},  # meant for another process
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "0"},
        {},
    ],
)
def test_a_watchdog_that_is_not_ours_or_makes_no_sense_is_none(env):
    found = Notifier.from_environment({"NOTIFY_SOCKET": "@x", **env})
    assert found.watchdog is None
    found.close()


@pytest.mark.parametrize("address", ["", "vsock:2:1", "relative"])
def test_an_address_that_cannot_be_reached_is_none_at_all(address):
    assert Notifier.from_environment({"NOTIFY_SOCKET": address}) is None


async def test_ready_comes_first_and_changes_of_the_status_follow(systemd, notifier):
    told = Told()
    task = asyncio.create_task(told.herald(notifier).attend())
    await until(systemd.hear)
    assert systemd.hear()[0] == {"READY": "1", "STATUS": "Ready: 0 of 1 services."}
    told.words = "Ready: 1 of 1 services."
    told.bell.ring()
    await until(lambda: {"STATUS": "Ready: 1 of 1 services."} in systemd.hear())
    task.cancel()
    assert sum("STATUS" in fields for fields in systemd.hear()) == 2


async def test_ready_is_repeated_until_somebody_takes_it(tmp_path):
    address = str(tmp_path / "late")
    notifier = Notifier(address)
    task = asyncio.create_task(Told().herald(notifier).attend())
    await asyncio.sleep(0.05)
    receiver = NotifySocket(address)
    await until(lambda: any("READY" in fields for fields in receiver.hear()))
    task.cancel()
    receiver.close()
    notifier.close()


async def test_the_end_is_announced_once_and_asks_for_time_while_it_lasts(systemd, notifier):
    told = Told()
    herald = told.herald(notifier)
    task = asyncio.create_task(herald.attend())
    await until(systemd.hear)
    told.over = True
    told.bell.ring()
    await until(lambda: any("EXTEND_TIMEOUT_USEC" in fields for fields in systemd.hear()))
    herald.stopping()
    task.cancel()
    assert sum("STOPPING" in fields for fields in systemd.hear()) == 1


async def test_signs_of_life_come_at_half_of_the_allowed_time_and_stop_with_the_loop(
    systemd, notifier
):
    task = asyncio.create_task(Told().herald(notifier).attend())

    def signs() -> list[float]:
        systemd.hear()
        return [at for at, fields in systemd.heard if "WATCHDOG" in fields]

    await until(lambda: len(signs()) >= 4)
    before = len(signs())
    time.sleep(1.0)
    assert len(signs()) == before
    await until(lambda: len(signs()) >= before + 2)
    task.cancel()


def test_a_reload_is_announced_with_its_moment_and_ends_ready_whatever_happened(systemd, notifier):
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    with pytest.raises(ValueError, match="wrong"), notifier.reloading():
        raise ValueError("wrong file")
    begun, ended = systemd.hear()
    assert begun["RELOADING"] == "1"
    assert before <= int(begun["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert ended == {"READY": "1"}
