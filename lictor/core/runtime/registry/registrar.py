"""Keeps Consul true: what should be registered is, what should not is not, nothing else is touched.

It wakes on every change of phase and does a full read every ten seconds. It compares first and
writes only what differs; while nothing differs, nothing in Consul moves. When Consul cannot be
reached it says so once, retries with jitter, and forgets what it believed, so the next good read
decides. A failed or forbidden read never deregisters anything. What the agent took and the catalog
has not (or still has) is noticed and pushed again; what comes and goes too often is damped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet

from lictor.core.errors import ConsulError, ConsulTimeout, ConsulUnreachable, Forbidden
from lictor.core.model.known import Known, Unknown
from lictor.core.model.reason import Reason, because
from lictor.core.model.registration import (
    Deregister,
    Register,
    RegistryView,
    RemoveCheck,
    Write,
)
from lictor.core.model.spec import ASKED_BY_CONSUL
from lictor.core.model.state import Health
from lictor.core.planning.registration import (
    Owner,
    Wanted,
    after,
    belongs_to,
    conflicts,
    diff,
    farewell,
)
from lictor.core.ports import Registry
from lictor.core.runtime.bell import Bell
from lictor.core.runtime.registry.catalog_view import CatalogView
from lictor.core.runtime.registry.drift import Drift
from lictor.core.runtime.registry.entry_writer import EntryWriter, TakenOutMeanwhile
from lictor.core.runtime.registry.flaps import Flaps
from lictor.core.runtime.registry.promotion import write_in_order

log = logging.getLogger(__name__)

FULL_READ = 10.0  # seconds between complete comparisons
_SETTLE = 2.0  # seconds until the catalog has certainly heard of a renewed check
_RETRY = (0.25, 10.0)  # seconds, first and longest
_DENIED = 10.0  # seconds until rights are asked for again: only a person can change them
_GATHER = 0.01  # seconds in which changes gather before Consul is told
_GATHER_AWAY = 0.2  # the same while it does not answer: each change would be another try


class Registrar:
    """One writer for all of our entries in the local Consul agent.

    `entries()` gives what should be there now; `on_health(check_id, passed, output)` is told what
    Consul's own checks say; `on_event(service_id, reason)` what happened to our entries unasked.
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
        on_event: Callable[[str, Reason], None] = lambda _id, _reason: None,
    ) -> None:
        self._registry = registry
        self._owner = owner
        self._entries = entries
        self._on_health = on_health
        self._on_state = on_state
        self._jitter = jitter
        self._on_event = on_event
        self._wake = asyncio.Event()
        self._seen: RegistryView | None = None
        self._fresh: set[str] = set()
        self._renewed: dict[str, asyncio.TimerHandle] = {}
        self.catalog = CatalogView()
        self._good = False
        self._mute = False  # no call is answered; the watch waits half a minute before it says so
        self._again = False
        self._met_before = False
        self._failing = False
        self._torn = True  # contact was lost since the last full read
        self._held: frozenset[str] = frozenset()  # ours, when all was last as it should be
        self._credential = ""
        self._drift = Drift(owner)
        self._writer = EntryWriter(self._apply)
        self.heard = Bell()  # rings when the catalog told something about our node
        self.conflicts: list[str] = []
        self.writes = 0

    @property
    def good(self) -> bool:
        """Whether the last contact with Consul went well."""
        return self._good

    @property
    def refused(self) -> Mapping[str, str]:
        """Entries that Consul does not take, by id, with its own words."""
        return self._writer.refused

    @property
    def forbidden(self) -> AbstractSet[str]:
        """Those of the refused for which our token lacks a rule."""
        return self._writer.forbidden

    @property
    def flaps(self) -> Flaps:
        """What was taken out by others, and what is damped."""
        return self._writer.flaps

    def wake(self) -> None:
        """What should be registered may have changed."""
        self._wake.set()

    def became_ready(self, service_id: str) -> None:
        """Its health check must not keep the verdict from before it was ready."""
        self._fresh.add(service_id)
        self._wake.set()

    def watches(self, service_id: str) -> bool:
        """Whether Consul's verdict on this service is known at present."""
        watched = None if self._mute else self.catalog.checks
        return watched is not None and any(f"{service_id}:{k}" in watched for k in ASKED_BY_CONSUL)

    async def keep_true(self) -> None:
        """Reconcile for ever; returns only by cancellation."""
        failures = 0
        loop = asyncio.get_running_loop()
        next_read = 0.0
        while True:
            try:
                if self._again or loop.time() >= next_read:
                    self._again = True  # what was seen before stands until then
                    next_read = loop.time() + FULL_READ
                await self.sync()
                failures = 0
                timeout = self._until(next_read)
            except ConsulError as error:
                if not isinstance(error, TakenOutMeanwhile):  # that says nothing about Consul
                    self._lost(error)
                failures += 1
                timeout = min(_RETRY[1], _RETRY[0] * 2.0 ** min(failures, 10))
                timeout *= 0.5 + 0.5 * abs(self._jitter())
                next_read = 0.0
                if isinstance(error, Forbidden):
                    await asyncio.sleep(_DENIED)  # whatever else happens
                    continue
                self._wake.clear()  # while Consul is away, only time brings the next try
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._wake.wait()
                    # What follows from the same event comes first (a restart is underway), and one
                    # comparison is enough for all that changed with it.
                    await asyncio.sleep(_GATHER if failures == 0 else _GATHER_AWAY)
            self._wake.clear()

    def _until(self, next_read: float) -> float:
        """Seconds until there is something to do again, if nothing happens."""
        now = asyncio.get_running_loop().time()
        drifting = self._drift.next_look(now)
        wait = next_read - now if drifting is None else min(next_read - now, drifting)
        return max(0.0, wait)

    async def sync(self) -> None:
        """Make Consul hold what it should; raises `ConsulError` and forgets the cache on failure."""
        # First: who becomes ready from here on is not yet so in these entries, and is for next time.
        fresh = self._fresh.copy()
        entries = self._entries()
        seen, taken = self._seen, frozenset[str]()
        drifting = self._drift.missing(asyncio.get_running_loop().time())
        if seen is None or self._again or drifting:
            # What the catalog lacks for long, the agent may have lost as well: the watch shows no
            # second loss of what it has not yet seen come back.
            seen, taken = await self._read(entries)
        try:
            await self._make_true(entries, seen)
            if not self._good:
                fresh |= self._found(entries)
            await self._renew(entries, fresh)
        except ConsulError as error:
            self._seen = None
            if isinstance(error, TakenOutMeanwhile):
                self._count_taken(taken)
            raise
        self._settle(fresh)
        self._count_taken(taken)

    async def _read(self, entries: Sequence[Wanted]) -> tuple[RegistryView, frozenset[str]]:
        """Look at everything; and which entries somebody took out since it was last all right."""
        if not self._good or self._torn or self.catalog.checks is None:
            # The local agent answers for itself for hours after its servers are gone, and names a
            # dead leader for a while: so it is asked as long as the catalog cannot be watched.
            await self._registry.ready()
        self._again = False  # what was noticed until now, this read will show
        self._seen = seen = await self._registry.read()
        self.conflicts = conflicts(entries, seen, self._owner)
        torn, self._torn = self._torn, False
        # After a gap in the contact, Consul itself may have lost them: that is nobody's doing.
        return seen, frozenset() if torn else self._held - seen.services.keys()

    def _found(self, entries: Sequence[Wanted]) -> set[str]:
        """Consul answers, for the first time or again. Gives those of which it may think ill."""
        self._good, self._failing, self._mute = True, False, False
        log.info("Consul answers; registrations are being compared")
        self._on_state(because("consul.ok"))
        passing = {
            entry.registration.service_id
            for entry in entries
            if entry.status is not None and entry.status.status is Health.PASSING
        }
        # A Consul that was restarted knows no verdict and starts every check critical; ours is
        # fresher, because the runners probed while it was away.
        found = passing if self._met_before else set()
        self._fresh |= found
        self._met_before = True
        return found

    async def _make_true(self, entries: Sequence[Wanted], seen: RegistryView) -> None:
        """Write what differs, and push again what did not arrive."""
        now = asyncio.get_running_loop().time()
        wanted = {entry.registration.service_id: entry.registration for entry in entries}
        ours = {name: it for name, it in wanted.items() if name not in self.conflicts}
        credential = self._registry.credential()
        self._drift.look(seen, self.catalog.checks, now)
        missing = {n: s for n, s in self._drift.missing(now).items() if n in ours}
        again = self._drift.due(now, missing)
        for name in self._drift.news(missing):
            log.warning("the catalog lacks %s, which its agent has", name)
            told = because("registry.not_in_catalog", id=name, seconds=round(missing[name], 1))
            self._on_event(name, told)
        if credential != self._credential:
            # Consul keeps with each entry the token that registered it. Once that token is gone it
            # could neither be kept true nor taken out, so a new one is made known before that.
            again = list(ours)
        self._writer.forget_all_but(wanted.keys())
        writes = self._writer.permitted(diff(entries, seen, self._owner), seen)
        planned = {write.registration.service_id for write in writes if isinstance(write, Register)}
        writes += [Register(ours[name]) for name in again if name not in planned]
        await write_in_order(self._writer.write, self._registry, writes, seen)
        if ours and self.forbidden >= ours.keys():  # then it is not about the entries
            raise Forbidden(self.refused[next(iter(ours))])
        self._credential = credential
        after_all = self._seen or seen
        self._held = frozenset(name for name in ours if name in after_all.services)
        await self._take_out_ghosts(now, wanted.keys())

    def _count_taken(self, taken: frozenset[str]) -> None:
        for service_id in sorted(taken & self._held):
            count = self.flaps.taken_out(service_id)
            if count & (count - 1) == 0:  # 1, 2, 4, 8, …: a fight must not fill the journal
                log.warning("somebody deregistered %s (%d times); registered", service_id, count)
                self._on_event(service_id, because("registry.taken_out", count=count))

    async def _take_out_ghosts(self, now: float, wanted: Collection[str]) -> None:
        """Entries of ours that the catalog keeps although the local agent has dropped them."""
        due = self._drift.due(now, [n for n in self._drift.ghosts(now) if n not in wanted])
        if not due:
            return
        listed = await self._registry.in_catalog()
        for service_id in due:
            ghost = listed.get(service_id)
            if ghost is None or not belongs_to(ghost, self._owner):
                continue
            log.warning("the catalog still has %s; it is taken out", service_id)
            await self._writer.write(farewell(ghost))
            self._on_event(service_id, because("registry.ghost"))

    @property
    def drifting(self) -> Mapping[str, float]:
        """Entries that the agent has and the catalog has not, and for how many seconds."""
        found = self._drift.missing(asyncio.get_running_loop().time())
        return {name: s for name, s in found.items() if not self.catalog.has(name)}

    async def withdraw(self) -> None:
        """Deregister everything of ours; for the end of the agent."""
        seen = await self._registry.read()
        await write_in_order(self._writer.write, self._registry, diff((), seen, self._owner), seen)

    async def withdraw_one(self, service_id: str) -> None:
        """Deregister one entry of ours, if it is there."""
        seen = await self._registry.read()
        there = seen.services.get(service_id)
        if there is not None and belongs_to(there, self._owner):
            await self._registry.apply(Deregister(service_id))

    def holds(self, service_id: str) -> bool | None:
        """Whether the local Consul agent has this entry; None when that is not known."""
        return None if self._seen is None else service_id in self._seen.services

    def gives_out(self, service_id: str) -> bool:
        """Whether the catalog sends clients to this entry, and Consul hears of it from us."""
        heard = self._good and service_id not in self.refused
        return heard and self.catalog.gives_out(service_id)

    def said(self, service_id: str) -> str:
        """The sentence that our own check of this entry carries, if it is there."""
        check = self._seen.checks.get(f"{service_id}:lictor") if self._seen is not None else None
        return check.output if check is not None and check.status == "critical" else ""

    async def watch_health(self) -> None:
        """Tell the runners what Consul's checks say, for ever."""
        async for view in self._registry.watch_health():
            match view:
                case Known(value):
                    lost = self.catalog.lost(value, f"lictor:{self._owner.node}:")
                    if lost or not self._good:
                        self._look_again()  # Consul was emptied, or somebody took an entry out
                    if self.catalog.hear(value):
                        self._wake.set()  # a place in a group may follow from it
                    if not self._mute:  # else it may be older than what the runners found
                        self._tell(value)
                case Unknown():
                    if self.catalog.checks is not None:
                        self._look_again()
                    self.catalog.forget()
                    self._torn = True
            self.heard.ring()

    def _look_again(self) -> None:
        """Consul went, came back or lost something: do not wait for the next full read."""
        self._again = True
        self._wake.set()

    def _tell(self, checks: Mapping[str, tuple[str, str]]) -> None:
        prefix = f"lictor:{self._owner.node}:"
        for check_id, (status, output) in checks.items():
            service_id, _, kind = check_id.rpartition(":")
            if not check_id.startswith(prefix) or kind not in ASKED_BY_CONSUL:
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
        self._tell(self.catalog.about(service_id))

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
            again = Register(entry.registration)
            if old and not self._writer.too_often(again):  # else its own next answer decides
                await self._writer.write([*map(RemoveCheck, old), again])

    def _lost(self, error: ConsulError) -> None:
        self._seen = None
        if not self._failing:
            log.warning("Consul cannot be used: %s", error.message)
        self._good, self._failing, self._torn = False, True, True
        self._mute = isinstance(error, ConsulTimeout | ConsulUnreachable)
        self._held = frozenset()
        if isinstance(error, Forbidden) and error.unknown_token:
            self._on_state(because("consul.unknown_token"))
        else:
            self._on_state(Reason(error.code, {"message": error.message}))
