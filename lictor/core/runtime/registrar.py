"""Keeps Consul true: what should be registered is, what should not is not, nothing else is touched.

It wakes on every change of phase and does a full read every ten seconds. It compares first and
writes only what differs; while nothing differs, nothing in Consul moves. When Consul cannot be
reached it says so once, retries with jitter, and forgets what it believed, so the next good read
decides. A failed or forbidden read never deregisters anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence

from lictor.core.errors import BadRequest, ConsulError
from lictor.core.model.known import Known, Unknown
from lictor.core.model.reason import Reason, because
from lictor.core.model.registration import (
    OWNER_META,
    Deregister,
    Register,
    RegistryView,
    RemoveCheck,
    SetStatus,
    Write,
)
from lictor.core.model.state import Health
from lictor.core.planning.registration import Owner, Wanted, after, conflicts, diff
from lictor.core.ports import Registry

log = logging.getLogger(__name__)

FULL_READ = 10.0  # seconds between complete comparisons
_AT_ONCE = 8  # writes under way at one time
_ASKED = ("http", "tcp")  # kinds of checks that Consul does itself
_SETTLE = 2.0  # seconds until the catalog has certainly heard of a renewed check
_RETRY = (0.25, 10.0)  # seconds, first and longest
_GATHER = 0.01  # seconds in which changes gather before Consul is told
_GATHER_AWAY = 0.2  # the same while it does not answer: each change would be another try


class Registrar:
    """One writer for all of our entries in the local Consul agent.

    `entries()` gives what should be there now; `on_health(check_id, passed, output)` is told what
    Consul's own checks say; `reason_of` turns a failure into its reason.
    """

    def __init__(
        self,
        registry: Registry,
        owner: Owner,
        *,
        entries: Callable[[], Sequence[Wanted]],
        on_health: Callable[[str, bool, str], None],
        on_state: Callable[[Reason], None],
        jitter: Callable[[], float],
    ) -> None:
        self._registry = registry
        self._owner = owner
        self._entries = entries
        self._on_health = on_health
        self._on_state = on_state
        self._jitter = jitter
        self._wake = asyncio.Event()
        self._seen: RegistryView | None = None
        self._fresh: set[str] = set()
        self._renewed: dict[str, asyncio.TimerHandle] = {}
        self._watched: Mapping[str, tuple[str, str]] | None = None
        self._good = False
        self._again = False
        self._met_before = False
        self.conflicts: list[str] = []
        self.refused: dict[str, str] = {}
        self.writes = 0

    @property
    def good(self) -> bool:
        """Whether the last contact with Consul went well."""
        return self._good

    def wake(self) -> None:
        """What should be registered may have changed."""
        self._wake.set()

    def became_ready(self, service_id: str) -> None:
        """Its health check must not keep the verdict from before it was ready."""
        self._fresh.add(service_id)
        self._wake.set()

    def watches(self, service_id: str) -> bool:
        """Whether Consul's verdict on this service is known at present."""
        watched = self._watched
        return watched is not None and any(f"{service_id}:{k}" in watched for k in _ASKED)

    async def keep_true(self) -> None:
        """Reconcile for ever; returns only by cancellation."""
        failures = 0
        loop = asyncio.get_running_loop()
        next_read = 0.0
        while True:
            try:
                if self._again or loop.time() >= next_read:
                    self._seen = None
                    next_read = loop.time() + FULL_READ
                await self.sync()
                failures = 0
                timeout = max(0.0, next_read - loop.time())
            except ConsulError as error:
                self._lost(error)
                failures += 1
                timeout = min(_RETRY[1], _RETRY[0] * 2.0 ** min(failures, 10))
                timeout *= 0.5 + 0.5 * abs(self._jitter())
                next_read = 0.0
                self._wake.clear()  # while Consul is away, only time brings the next try
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._wake.wait()
                    # What follows from the same event comes first (a restart is underway), and one
                    # comparison is enough for all that changed with it.
                    await asyncio.sleep(_GATHER if failures == 0 else _GATHER_AWAY)
            self._wake.clear()

    async def sync(self) -> None:
        """Make Consul hold what it should; raises `ConsulError` and forgets the cache on failure."""
        entries = self._entries()
        if self._seen is None:
            if not self._good:
                await self._registry.ready()
            self._again = False  # what was noticed until now, this read will show
            self._seen = await self._registry.read()
            self.conflicts = conflicts(entries, self._seen, self._owner)
        if not self._good:
            self._good = True
            log.info("Consul answers; registrations are being compared")
            self._on_state(because("consul.ok"))
            if self._met_before:
                # A Consul that was restarted knows no verdict and starts every check critical; ours
                # is fresher, because the runners probed while it was away.
                self._fresh |= {
                    entry.registration.service_id
                    for entry in entries
                    if entry.status is not None and entry.status.status is Health.PASSING
                }
            self._met_before = True
        fresh = self._fresh.copy()
        try:
            await self._write_all(diff(entries, self._seen, self._owner))
            await self._renew(entries, fresh)
        except ConsulError:
            self._seen = None
            raise
        self._settle(fresh)

    async def withdraw(self) -> None:
        """Deregister everything of ours; for the end of the agent."""
        seen = await self._registry.read()
        await self._write_all(diff((), seen, self._owner))

    async def withdraw_one(self, service_id: str) -> None:
        """Deregister one entry of ours, if it is there."""
        seen = await self._registry.read()
        there = seen.services.get(service_id)
        if there is not None and there.meta.get(OWNER_META) == self._owner.uuid:
            await self._registry.apply(Deregister(service_id))

    def holds(self, service_id: str) -> bool | None:
        """Whether the local Consul agent has this entry; None when that is not known."""
        return None if self._seen is None else service_id in self._seen.services

    def said(self, service_id: str) -> str:
        """The sentence that our own check of this entry carries, if it is there."""
        check = self._seen.checks.get(f"{service_id}:lictor") if self._seen is not None else None
        return check.output if check is not None and check.status == "critical" else ""

    async def watch_health(self) -> None:
        """Tell the runners what Consul's checks say, for ever."""
        async for view in self._registry.watch_health():
            match view:
                case Known(value):
                    if not self._good or self._lacks(value):
                        self._look_again()
                    self._watched = value
                    self._tell(value)
                case Unknown():
                    if self._watched is not None:
                        self._look_again()
                    self._watched = None

    def _lacks(self, checks: Mapping[str, tuple[str, str]]) -> bool:
        """Whether a check of ours is gone: Consul was emptied, or somebody took an entry out."""
        prefix, before = f"lictor:{self._owner.node}:", self._watched or {}
        return any(name.startswith(prefix) and name not in checks for name in before)

    def _look_again(self) -> None:
        """Consul went, came back or lost something: do not wait for the next full read."""
        self._again = True
        self._wake.set()

    def _tell(self, checks: Mapping[str, tuple[str, str]]) -> None:
        prefix = f"lictor:{self._owner.node}:"
        for check_id, (status, output) in checks.items():
            service_id, _, kind = check_id.rpartition(":")
            if not check_id.startswith(prefix) or kind not in _ASKED:
                continue
            if service_id not in self._fresh and service_id not in self._renewed:
                self._on_health(service_id, status in {"passing", "warning"}, output)

    def _settle(self, fresh: set[str]) -> None:
        """Believe Consul about renewed checks again, a moment after they were renewed.

        Its catalog follows its agent: until then the watch may still bring the old verdict.
        """
        self._fresh -= fresh
        for service_id in fresh:
            earlier = self._renewed.pop(service_id, None)
            if earlier is not None:
                earlier.cancel()
            self._renewed[service_id] = asyncio.get_running_loop().call_later(
                _SETTLE, self._believe, service_id
            )

    def _believe(self, service_id: str) -> None:
        self._renewed.pop(service_id, None)
        if self._watched is not None:
            self._tell({k: v for k, v in self._watched.items() if k.startswith(f"{service_id}:")})

    async def _write_all(self, writes: Sequence[Write]) -> None:
        """Apply writes: in order for one service, several services at once."""
        if not writes:
            return
        lanes: dict[str, list[Write]] = {}
        for write in writes:
            lanes.setdefault(_service_of(write), []).append(write)
        gate = asyncio.Semaphore(_AT_ONCE)

        async def lane(service_id: str, work: Sequence[Write]) -> None:
            async with gate:
                try:
                    for write in work:
                        await self._apply(write)
                except BadRequest as error:  # this entry alone: the others are not its hostages
                    if self.refused.get(service_id) != error.message:
                        log.warning("Consul refuses %s: %s", service_id, error.message)
                    self.refused[service_id] = error.message
                else:
                    self.refused.pop(service_id, None)

        results = await asyncio.gather(
            *(lane(service_id, work) for service_id, work in lanes.items()),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _apply(self, write: Write) -> None:
        self.writes += 1
        await self._registry.apply(write)
        if self._seen is not None:
            self._seen = after(self._seen, write)

    async def _renew(self, entries: Sequence[Wanted], fresh: set[str]) -> None:
        """Give services that just became ready a check that starts passing.

        Consul keeps the status of a check that exists, so the verdict from the time of loading
        would stand until the next interval: the check is taken out and registered anew. In that
        moment the service still has its `:lictor` check, so nothing false is said.
        """
        by_id = {entry.registration.service_id: entry for entry in entries}
        stale = [by_id[service_id] for service_id in fresh if service_id in by_id]
        if not stale:
            return
        seen = await self._registry.read()
        for entry in stale:
            checks = [c for c in entry.registration.checks if c.kind != "ttl"]
            old = [
                check.check_id
                for check in checks
                if (known := seen.checks.get(check.check_id)) and known.status != "passing"
            ]
            for check_id in old:
                await self._apply(RemoveCheck(check_id))
            if old:
                await self._apply(Register(entry.registration))

    def _lost(self, error: ConsulError) -> None:
        self._seen = None
        if self._good:
            log.warning("Consul is lost: %s", error.message)
        self._good = False
        self._on_state(Reason(error.code, {"message": error.message}))


def _service_of(write: Write) -> str:
    match write:
        case Register(registration):
            return registration.service_id
        case Deregister(service_id):
            return service_id
        case RemoveCheck(check_id) | SetStatus(check_id):
            return check_id.rpartition(":")[0]
