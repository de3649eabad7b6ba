"""The blocking-query loop: its rules one by one, then against a Consul that loses its state."""

import asyncio
import time
from contextlib import aclosing
from dataclasses import replace

import pytest

from lictor.consul_integration.watch import Fresh, Pace, Watch
from lictor.core.errors import ConsulUnreachable, Forbidden
from lictor.core.model.known import Unknown
from tests.support.patience import next_of, soon, until

QUICK = Pace(wait=5, gap=0.0, first_delay=0.01, max_delay=0.02, denied=0.02)


class Script:
    """Answers in order, and the indexes it was asked with."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked: list[int] = []

    async def __call__(self, index, wait):
        self.asked.append(index)
        if not self.answers:
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def take(watch, count):
    async with aclosing(watch.answers()) as answers:
        return [await next_of(answers) for _ in range(count)]


async def test_the_next_query_holds_the_index_of_the_last_answer():
    script = Script((5, "a"), (9, "b"), (10, "c"), (11, "d"))
    assert await take(Watch(script, pace=QUICK), 4) == [
        Fresh(5, "a"),
        Fresh(9, "b"),
        Fresh(10, "c"),
        Fresh(11, "d"),
    ]
    assert script.asked == [0, 5, 9, 10]


async def test_a_lower_index_starts_again_at_zero():
    script = Script((100, "a"), (9, "b"), (9, "b"))
    await take(Watch(script, pace=QUICK), 3)
    assert script.asked == [0, 100, 0]


async def test_an_index_of_zero_never_makes_a_query_that_cannot_block():
    script = Script((0, "a"), (3, "b"))
    await take(Watch(script, pace=QUICK), 2)
    assert script.asked == [0, 1]


async def test_any_error_starts_again_at_zero_and_is_told_once():
    gone = ConsulUnreachable("gone")
    script = Script((7, "a"), gone, gone, gone, (7, "a"))
    seen = await take(Watch(script, pace=QUICK), 3)
    assert [type(each) for each in seen] == [Fresh, Unknown, Fresh]
    assert seen[1].reason.code == "consul.unreachable"
    assert script.asked == [0, 7, 0, 0, 0]


async def test_another_kind_of_failure_is_told_again():
    script = Script(ConsulUnreachable("gone"), Forbidden("no"), Forbidden("no"), (1, "a"))
    seen = await take(Watch(script, pace=QUICK), 3)
    assert [getattr(getattr(each, "reason", None), "code", "good") for each in seen] == [
        "consul.unreachable",
        "consul.forbidden",
        "good",
    ]


async def test_without_rights_it_is_asked_rarely_whatever_the_back_off_says():
    script = Script(Forbidden("no"), Forbidden("gone", unknown_token=True), *[(1, "a")] * 3)
    began = asyncio.get_running_loop().time()
    await take(Watch(script, pace=replace(QUICK, denied=0.3)), 3)
    assert asyncio.get_running_loop().time() - began >= 0.6


async def test_a_hot_prefix_is_asked_at_most_ten_times_a_second():
    script = Script(*((index, index) for index in range(1, 1000)))
    async with aclosing(Watch(script, pace=Pace()).answers()) as answers:

        async def drain():
            async for _ in answers:
                pass

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(drain(), 0.55)
    assert 2 <= len(script.asked) <= 7


async def test_the_back_off_doubles_below_its_cap_with_full_jitter():
    always = Pace(jitter=lambda: 1.0)
    assert [always.delay(n) for n in (1, 2, 3, 4)] == [0.25, 0.5, 1.0, 2.0]
    assert always.delay(50) == always.delay(10_000) == 30.0
    assert Pace(jitter=lambda: 0.5).delay(2) == 0.25


async def test_contact_by_somebody_else_ends_the_back_off():
    reached = asyncio.Event()

    async def contact(seconds):
        await asyncio.wait_for(reached.wait(), seconds)

    script = Script(ConsulUnreachable("gone"), (1, "a"))
    slow = Pace(first_delay=60, max_delay=60, jitter=lambda: 1.0)
    async with aclosing(Watch(script, pace=slow, contact=contact).answers()) as answers:
        assert isinstance(await next_of(answers), Unknown)
        waiting = asyncio.create_task(anext(answers))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        reached.set()
        assert await soon(waiting) == Fresh(1, "a")


@pytest.mark.consul
async def test_a_change_after_a_quiet_time_arrives_within_milliseconds(client, unique):
    await client.kv_put(f"{unique}/x", "0")
    watch = Watch(lambda index, wait: client.kv_list(f"{unique}/", index, wait), pace=Pace(wait=10))
    async with aclosing(watch.answers()) as answers:
        await next_of(answers)
        waiting = asyncio.create_task(anext(answers))
        took = []
        for number in range(1, 6):
            await asyncio.sleep(0.3)
            await client.kv_put(f"{unique}/x", str(number))
            began = time.monotonic()  # not before: a busy disk takes its time over the write
            fresh = await soon(waiting)
            took.append(time.monotonic() - began)
            assert fresh.data[0].value == str(number).encode()
            waiting = asyncio.create_task(anext(answers))
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert min(took) < 0.08  # well below the pause between queries


@pytest.mark.consul
async def test_a_watch_sees_writes_after_consul_lost_its_state(own_consul, connect):
    client = connect(own_consul.http)
    for number in range(40):
        own_consul.put_kv(f"s/{number}", "x")
    watch = Watch(
        lambda index, wait: client.kv_list("s/", index, wait),
        pace=Pace(wait=60, first_delay=0.05, max_delay=0.2),
    )
    async with aclosing(watch.answers()) as answers:
        before = await next_of(answers)
        assert len(before.data) == 40
        waiting = asyncio.create_task(anext(answers))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(own_consul.restart, wipe=True)
        assert isinstance(await soon(waiting), Unknown)
        own_consul.put_kv("s/new", "y")

        async def new_one():
            fresh = await anext(answers)
            return isinstance(fresh, Fresh) and [item.key for item in fresh.data] == ["s/new"]

        began = time.monotonic()
        await until(new_one)
        assert time.monotonic() - began < 10  # far below the minute that an old index would sleep
