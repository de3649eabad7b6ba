"""Asking Consul's DNS again and again, to see what a client would have got at any moment.

Past all of Lictor's code: dnspython's own resolver calls, over UDP, as a program would ask.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import NamedTuple, Self

import dns.message
import dns.query
import dns.rdatatype


class Sample(NamedTuple):
    """What was answered between `begun` and `ended` (monotonic seconds): the ports of the SRVs."""

    begun: float
    ended: float
    ports: frozenset[int]


def srv_ports(name: str, port: int, *, server: str = "127.0.0.1") -> frozenset[int]:
    """The ports that an SRV question for `name` is answered with now; empty for NXDOMAIN."""
    question = dns.message.make_query(name, "SRV", use_edns=0, payload=4096)
    answer = dns.query.udp(question, server, port=port, timeout=5)
    return frozenset(
        record.port
        for rrset in answer.answer
        if rrset.rdtype == dns.rdatatype.SRV
        for record in rrset
    )


class Sampler:
    """Asks for one name every few milliseconds, in a thread, while the `with` block runs."""

    def __init__(self, name: str, port: int, *, pause: float = 0.004) -> None:
        self._name, self._port, self._pause = name, port, pause
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.samples: list[Sample] = []
        self.failure: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join(20)

    def _run(self) -> None:
        while not self._ending.wait(self._pause):
            begun = time.monotonic()
            try:
                ports = srv_ports(self._name, self._port)
            except Exception as error:  # noqa: BLE001 - told to the test
                self.failure = error
                return
            self.samples.append(Sample(begun, time.monotonic(), ports))

    def seen(self) -> list[Sample]:
        """All samples so far; raises what stopped the sampling, if anything did."""
        if self.failure is not None:
            raise self.failure
        return list(self.samples)

    def changes(self) -> list[Sample]:
        """The first sample of each run of equal answers."""
        result: list[Sample] = []
        for sample in self.seen():
            if not result or result[-1].ports != sample.ports:
                result.append(sample)
        return result
