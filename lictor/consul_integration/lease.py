"""One agent per node name: a lease in KV, `<prefix>/nodes/<node>`, locked by a session.

The lock on the data_dir is the first line; this is the second, for an agent that has another
data_dir or a copy of ours. Sessions live 15 s without renewal and Consul may take twice that
(hashicorp/consul#1172; 20.1 s of 10 s on 1.8.7), then the lock-delay passes, then another agent may
have it. The next agent on the *same* data_dir goes on with the session of the dead one, at once.

Consul's locks are advisory, and an agent's list of services knows none. So whoever writes asks
here first: `require` refuses once another agent is known to have the name. Losing the lease ends
nothing that runs. What this never does: take a lease that somebody else has.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from lictor.consul_integration.client import ConsulClient, KvItem
from lictor.consul_integration.failures import one_line, session_is_over
from lictor.core.errors import ConsulError, Forbidden, NodeTaken, NotFound
from lictor.core.model.reason import Reason, because
from lictor.core.worded import worded

TTL, LOCK_DELAY = 15.0, 1.0  # seconds
_RENEW = 5.0  # seconds between two renewals: two may fail before the lease is in danger
_ASK = 1.0  # seconds between two looks while another has it, or Consul has just gone away
_DELAYED = 0.3  # seconds between two tries within a lock-delay
_TRIES = 6
_REMEMBERED = 8  # earlier agents of the name
#: Seconds after which the document is written again, so that its age tells how long we were there.
_REFRESH = 600.0

#: What tells one agent from another: the installation, and the very lock file of this boot.
IDENTITY = ("agent", "boot", "lock")


class Lease:
    """The lease of one node name. Belongs to one event loop."""

    def __init__(self, client: ConsulClient, node: str, *, prefix: str = "lictor") -> None:
        self._client = client
        self.node = node
        self._key = f"{prefix.strip('/')}/nodes/{node}"
        self._session = ""
        self._state = because("lease.none", message="-")
        self._lost_to = self._state  # who has the name while the state is `node.taken`
        self._facts: Callable[[], Mapping[str, object]] | None = None
        self._on_change: Callable[[Reason], None] = lambda _: None
        self._on_loss: Callable[[], None] = lambda: None
        self._written: tuple[Mapping[str, object], float] | None = None
        self._renewed = float("-inf")
        self._heir_of: tuple[str, ...] = ()
        self._busy = asyncio.Lock()

    def introduce(
        self,
        facts: Callable[[], Mapping[str, object]],
        on_change: Callable[[Reason], None],
        on_loss: Callable[[], None] = lambda: None,
    ) -> None:
        """Say who we are and who hears of changes; before that, `claim` claims nothing.

        `on_loss` is called when our document, which nobody but us deletes, is not there any more.
        """
        self._facts, self._on_change, self._on_loss = facts, on_change, on_loss

    @property
    def state(self) -> Reason:
        """`lease.held`, `lease.refused`, `lease.none` or `node.taken`."""
        return self._state

    @property
    def heir_of(self) -> tuple[str, ...]:
        """The agents that had this name before and lost it: what they left in Consul is ours now."""
        return self._heir_of if self._state.code == "lease.held" else ()

    @property
    def owner(self) -> str:
        """The agent that we are, as its entries in Consul name it."""
        return str(self._facts().get("agent")) if self._facts is not None else ""

    def require(self) -> None:
        """Raise `NodeTaken` while another agent is known to have the name."""
        if self._state.code == "node.taken":
            raise worded(NodeTaken, self._lost_to)

    async def claim(self) -> None:
        """See to it that the name is ours now.

        Raises `NodeTaken` if another agent has it, and how Consul failed. Returns without a lease
        only where our token may not have one: then nothing is known to be wrong.
        """
        if self._facts is None:
            return
        async with self._busy:
            try:
                await self._claim(self._facts())
            except Forbidden as error:
                # A token without rights for sessions or this key: said, and no reason to stand still.
                self._enter(because("lease.refused", message=error.message))
            except NodeTaken as error:
                self._enter(because("node.taken", message=error.message))
                raise
            except ConsulError as error:
                if self._state.code != "node.taken":
                    self._enter(because("lease.none", message=error.message))
                raise

    async def keep(self) -> None:
        """Claim and renew for ever."""
        away = _ASK
        while True:
            pause = _RENEW
            try:
                await self.claim()
                away = _ASK
            except NodeTaken:
                pause = _ASK
            except ConsulError:
                # (it ends as soon as anybody else has reached Consul)
                await self._client.transport.contact(away)
                pause, away = _DELAYED, min(2 * away, _RENEW)
            await asyncio.sleep(pause)

    async def release(self) -> None:
        """Give it back: the next agent need not wait. `ended` in the document tells the others."""
        async with self._busy:
            session, self._session = self._session, ""
            if not session or self._facts is None:
                return
            self._enter(because("lease.none", message="-"))
            told = {"heir_of": self._heir_of, "at": _now(), "ended": _now()}
            document = {**self._facts(), **told}
            await self._client.kv_unlock(self._key, _text(document), session)
            await self._client.session_destroy(session)

    async def _claim(self, facts: Mapping[str, object]) -> None:
        loop = asyncio.get_running_loop()
        if self._session and await self._renew(facts):
            return
        item = await self._client.kv_get(self._key)
        lost = item is None and self._written is not None
        if item is not None and item.session:
            await self._inherit(item, facts)
        self._inherit_from(facts_of(item.value) if item is not None else {}, facts)
        for _ in range(_TRIES):
            if await self._lock(facts):
                self._renewed = loop.time()
                if lost:
                    self._on_loss()
                return
            item = await self._client.kv_get(self._key)
            if item is not None and item.session and item.session != self._session:
                raise self._taken(item)
            await asyncio.sleep(_DELAYED)
        raise worded(ConsulError, because("lease.delayed", node=self.node))

    async def _renew(self, facts: Mapping[str, object]) -> bool:
        """Whether our session goes on, with the lock that it had."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._renewed < _ASK and self._state.code == "lease.held":
            return True
        try:
            await self._client.session_renew(self._session)
        except NotFound:
            self._session = ""
            return False
        item = await self._client.kv_get(self._key)
        if item is None or item.session != self._session:
            return False  # the key was deleted or unlocked by hand
        self._renewed = loop.time()
        if self._outdated(facts):
            return await self._lock(facts)
        return True

    def _outdated(self, facts: Mapping[str, object]) -> bool:
        if self._written is None:
            return True
        before, when = self._written
        return before != facts or asyncio.get_running_loop().time() - when > _REFRESH

    async def _inherit(self, item: KvItem, facts: Mapping[str, object]) -> None:
        """Go on with a dead agent's session, if that agent was ours; else it is taken.

        Its data_dir's lock is ours now, so the agent that had it cannot be alive.
        """
        if item.session == self._session:
            return
        there = facts_of(item.value)
        if not same_agent(there, facts):
            raise self._taken(item)
        try:
            await self._client.session_renew(item.session)
        except NotFound:
            return
        self._session = item.session

    def _inherit_from(self, there: Mapping[str, Any], ours: Mapping[str, object]) -> None:
        """Remember whose the name was; it stays in the document until the next one reads it."""
        listed = there.get("heir_of")
        earlier = [str(one) for one in listed] if isinstance(listed, list) else []
        known = [*self._heir_of, *earlier, str(there.get("agent") or "")]
        others = dict.fromkeys(one for one in known if one and one != ours.get("agent"))
        self._heir_of = tuple(others)[-_REMEMBERED:]

    async def _lock(self, facts: Mapping[str, object]) -> bool:
        if not self._session:
            self._session = await self._client.session_create(
                f"lictor {self.node}", ttl=TTL, lock_delay=LOCK_DELAY
            )
        document = _text({**facts, "heir_of": self._heir_of, "at": _now()})
        try:
            locked = await self._client.kv_lock(self._key, document, self._session)
        except ConsulError as error:
            if not session_is_over(error):
                raise
            self._session = ""
            return False
        if locked:
            self._written = dict(facts), asyncio.get_running_loop().time()
            self._enter(because("lease.held", node=self.node))
        return locked

    def _taken(self, item: KvItem) -> NodeTaken:
        self._lost_to = _held_by(self.node, facts_of(item.value))
        return worded(NodeTaken, self._lost_to)

    def _enter(self, state: Reason) -> None:
        before, self._state = self._state, state
        if before.code != state.code:
            self._on_change(state)


def same_agent(there: Mapping[str, object], ours: Mapping[str, object]) -> bool:
    """Whether a document is of the agent that had this very data_dir before us, in this boot."""
    return all(ours.get(name) and there.get(name) == ours.get(name) for name in IDENTITY)


def facts_of(value: bytes) -> dict[str, Any]:
    """A node's document; empty for what is none."""
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _held_by(node: str, facts: Mapping[str, object]) -> Reason:
    return because(
        "lease.taken",
        node=node,
        agent=one_line(str(facts.get("agent") or "?"), 60),
        host=one_line(str(facts.get("host") or "?"), 60),
        pid=str(facts.get("pid") or "?"),
        since=one_line(str(facts.get("since") or "?"), 40),
    )


def _text(document: Mapping[str, object]) -> str:
    return json.dumps(document, ensure_ascii=False, sort_keys=True, default=str)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
