"""Waiting for what must become true, without caring how fast the machine is."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def until(condition: Callable[[], Any], *, seconds: float = 20.0) -> Any:
    """Poll `condition` (plain or async) until it gives something true, and give that."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        assert asyncio.get_running_loop().time() < deadline, f"not within {seconds} s: {found!r}"
        await asyncio.sleep(0.02)


async def soon(awaitable: Awaitable[T], *, seconds: float = 20.0) -> T:
    """The result of something that must not hang."""
    return await asyncio.wait_for(awaitable, seconds)


async def next_of(iterator: AsyncIterator[T], *, seconds: float = 20.0) -> T:
    """The next value of a watch."""
    return await soon(anext(iterator), seconds=seconds)
