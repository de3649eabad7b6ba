"""The groups of this node: who is best in each, remembered, and told to Consul.

`planning.groups` decides; here is what a decision needs besides the services themselves: who was best
before (also before this agent, by the store), since when each member works, and a timer for the
moment at which a hold-down is over. The prepared query of each group is looked after too: made once,
and mended if somebody changed ours. Nothing here writes an entry: the registrar does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet

from lictor.core.errors import ConsulError
from lictor.core.model.desired import DesiredService
from lictor.core.model.names import ServiceKey, registration_id
from lictor.core.model.reason import Reason, because
from lictor.core.model.spec import ServiceSpec
from lictor.core.model.state import ServiceState
from lictor.core.planning import groups as planning
from lictor.core.planning.registration import Owner, Wanted, is_kept_out
from lictor.core.ports import Clock, GroupQueries, Store
from lictor.core.runtime.storage.codec import key_from

log = logging.getLogger(__name__)

_TABLE = "groups"
_QUERIES_EVERY = 10.0  # seconds between two looks at the prepared queries


class Groups:
    """The groups of one agent. Lives in the event loop's thread.

    `passes(entry)` says whether Consul's catalog shows that an entry of ours passes (true where that
    is not known), `kept_out()` which checks take an entry out of DNS whatever its service's health
    is; `wake()` asks for a new comparison with Consul; `record(group, reason)` writes to
    the journal.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        owner: Owner,
        *,
        passes: Callable[[Wanted], bool],
        kept_out: Callable[[], AbstractSet[str]],
        wake: Callable[[], None],
        record: Callable[[str, Reason], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._owner = owner
        self._passes = passes
        self._kept_out = kept_out
        self._wake = wake
        self._record = record
        self._standings: dict[str, planning.Standing] = {}
        self._members: dict[str, list[planning.Member]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._look_at_queries = asyncio.Event()
        self._own_entries: dict[str, str] = {}
        self.trouble: Mapping[str, Reason] = {}

    def load(self) -> None:
        """Who was best when the agent before this one ended."""
        for name, row in self._store.load(_TABLE).items():
            best = key_from(str(row.get("best", "")))
            if best is not None:
                # Its form counts as good until it is looked at: only somebody better replaces it.
                self._standings[name] = planning.Standing(best, {best: planning.Form()})

    def best(self, group: str) -> ServiceKey | None:
        """Who has the place at present; it may have failed, if nobody else works either."""
        standing = self._standings.get(group)
        return standing.best if standing is not None else None

    def places(self, group: str) -> dict[ServiceKey, tuple[str, Reason, float | None]]:
        """How each member that has an entry stands, for people; see `planning.groups.place`."""
        standing, members = self._standings.get(group), self._members.get(group, [])
        if standing is None:
            return {}
        holder = next((each for each in members if each.key == standing.best), None)
        now = self._clock.now()
        return {each.key: planning.place(standing, each, holder, now) for each in members}

    def entries(
        self, known: Iterable[tuple[DesiredService, ServiceState, Wanted | None]]
    ) -> list[Wanted]:
        """The entries of all members under their groups' names, and who is best in each group."""
        groups: dict[str, list[tuple[DesiredService, ServiceState, Wanted]]] = {}
        for want, state, own in known:
            if own is not None and want.spec.voice_group is not None:
                groups.setdefault(want.spec.voice_group, []).append((want, state, own))
        now, found, soonest = self._clock.now(), [], None
        self._members = {}
        for name, members in groups.items():
            standing, again = self._judge(name, members, now)
            soonest = min((at for at in (soonest, again) if at is not None), default=None)
            found += [
                planning.group_entry(want, own, self._owner, standby=want.spec.key != standing.best)
                for want, _, own in members
            ]
        self._own_entries = {
            entry.registration.service_id: check.target
            for entry in found
            for check in entry.registration.checks
        }
        self._look_at(soonest, now)
        return found

    def is_there(self, key: ServiceKey, ids: Collection[str]) -> bool:
        """Whether one of these ids is that of a member under its group's name."""
        own = registration_id(self._owner.node, key)
        return any(target == own and it in ids for it, target in self._own_entries.items())

    def own_entry(self, service_id: str) -> str:
        """The member's own entry, for the id of one under a group's name; other ids as they are."""
        return self._own_entries.get(service_id, service_id)

    def entries_of(self, key: ServiceKey) -> list[str]:
        """The ids of a service's entries: its own, and the one under its group's name."""
        own = registration_id(self._owner.node, key)
        return [own, *(it for it, target in self._own_entries.items() if target == own)]

    def _judge(
        self, name: str, members: list[tuple[DesiredService, ServiceState, Wanted]], now: float
    ) -> tuple[planning.Standing, float | None]:
        failing = self._kept_out()
        present = [
            planning.member(
                want,
                state,
                proven=self._passes(own),
                kept_out=is_kept_out(
                    own, failing, planning.entry_id(self._owner.node, name, want.spec.key)
                ),
            )
            for want, state, own in members
        ]
        self._members[name] = present
        if name not in self._standings:
            self.look_at_queries()
        before = self._standings.get(name, planning.Standing())
        standing = planning.judge(before, present, now)
        self._standings[name] = standing
        if standing.best != before.best:
            self._tell(name, before.best, standing.best)
        return standing, planning.look_again(standing, present, now)

    def _tell(self, name: str, before: ServiceKey | None, best: ServiceKey | None) -> None:
        self._store.save(_TABLE, name, None if best is None else {"best": str(best)})
        if best is None:
            return
        reason = because("group.best", group=name, service=str(best))
        if before is not None:
            reason = because("group.replaced", group=name, service=str(best), before=str(before))
        log.info("%s answers for %s", best, name, extra={"group": name})
        self._record(name, reason)

    def _look_at(self, when: float | None, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, when - now), self._wake)

    # --- the prepared queries -----------------------------------------------------------

    def look_at_queries(self) -> None:
        """Consul may have lost them, this may be another Consul, or there is a new group."""
        self._look_at_queries.set()

    async def keep_queries(
        self, queries: GroupQueries, specs: Callable[[], Iterable[ServiceSpec]]
    ) -> None:
        """See for ever that each group of the config has its query; a failure is for the next look."""
        while True:
            names = planning.names_of(specs())
            if names:
                try:
                    self._note(await queries.ensure(names))
                except ConsulError as error:
                    log.debug("queries not looked at: %s", error.message)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_QUERIES_EVERY):
                    await self._look_at_queries.wait()
            self._look_at_queries.clear()

    def _note(self, trouble: Mapping[str, Reason]) -> None:
        for name, reason in trouble.items():
            if self.trouble.get(name) != reason:
                log.warning("no query for the group %s: %s", name, reason.code)
        self.trouble = trouble
