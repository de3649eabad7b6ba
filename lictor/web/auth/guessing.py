"""Slows down whoever guesses passwords: by address, and by the name that is tried.

The first nine wrong ones in a quarter of an hour are free; from the tenth each one costs a wait that
doubles. A try is counted before its password is looked at, so that a thousand at once are no way
around. The wait of a *name* stays short, because anybody could keep its owner out with it; that of
an *address* grows to a minute. It keeps nothing on disk and never says whether a name exists.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from lictor.core.model.reason import because
from lictor.core.worded import worded
from lictor.web.auth.errors import TooManyTries

FREE_TRIES = 9
MEMORY = 900.0  # seconds after which a wrong try is forgotten
_LONGEST = {"address": 60.0, "name": 5.0}  # seconds
_MOST_KEYS = (
    20_000  # then the oldest are forgotten: an attacker with many addresses fills no memory
)


@dataclass(slots=True)
class _Tries:
    count: int = 0
    last: float = -math.inf


class Guesses:
    """Counts tries. `now` is a clock in seconds that never jumps."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._tries: OrderedDict[tuple[str, str], _Tries] = OrderedDict()

    def enter(self, address: str, name: str) -> None:
        """Count a try as wrong until `forgive`; raises `TooManyTries` when it comes too soon."""
        keys = (("address", network(address)), ("name", name))
        wait = max(self._wait(key) for key in keys)
        if wait > 0:
            seconds = math.ceil(wait)
            later = because("auth.too_many_tries", seconds=seconds)
            raise worded(TooManyTries, later, retry_after=seconds)
        for key in keys:
            tries = self._of(key)
            tries.count += 1
            tries.last = self._now()

    def forgive(self, address: str, name: str) -> None:
        """The try was right: the name begins anew; the address only takes this one back.

        Somebody with an account of their own could else wash every tenth guess at another's away.
        """
        self._tries.pop(("name", name), None)
        tries = self._of(("address", network(address)))
        tries.count = max(0, tries.count - 1)

    def _wait(self, key: tuple[str, str]) -> float:
        tries = self._of(key)
        over = tries.count - FREE_TRIES
        if over < 0:
            return 0.0
        pause: float = min(_LONGEST[key[0]], 2.0 ** min(over, 16))
        return tries.last + pause - self._now()

    def _of(self, key: tuple[str, str]) -> _Tries:
        tries = self._tries.get(key)
        if tries is None or self._now() - tries.last > MEMORY:
            tries = self._tries[key] = _Tries(last=self._now())
        self._tries.move_to_end(key)
        while len(self._tries) > _MOST_KEYS:
            self._tries.popitem(last=False)
        return tries


def network(address: str) -> str:
    """What counts as one address: IPv4 as it is, of IPv6 the /64 that one host may choose from."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
