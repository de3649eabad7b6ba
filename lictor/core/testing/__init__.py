"""Fakes of the ports, for our own tests and for anybody's who writes a driver or an adapter.

They ship with Lictor so that whoever extends it can test against the same worlds in memory as we
do. Each one passes the contract tests that the real one passes (`tests/contracts`), and can be told
to fail the way the real one fails. They never touch a process, a socket or a file, and they decide
nothing: what a fake does next is what the test said.
"""

from lictor.core.testing.desired import FakeDesired
from lictor.core.testing.gpus import FakeGpuProbe
from lictor.core.testing.memory import FakeClock, MemoryStore
from lictor.core.testing.registry import FakeRegistry
from lictor.core.testing.services import FakeDriver, FakeProber, FakeRunning

__all__ = [
    "FakeClock",
    "FakeDesired",
    "FakeDriver",
    "FakeGpuProbe",
    "FakeProber",
    "FakeRegistry",
    "FakeRunning",
    "MemoryStore",
]
