"""`lictor hold` and `lictor release`: placing and ending an operator's word over one service.

An answer comes when the hold is on disk, or says that it is not. Whoever holds a service is the only
one who may hold it otherwise; to let go of it is anybody's right, and the journal tells who did.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from lictor.core.errors import LictorError, Refused, UsageError
from lictor.core.model.desired import DesiredState, Hold, HoldOrder
from lictor.core.model.line import as_line
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Reason, because
from lictor.core.planning.overrides import hold_of
from lictor.core.runtime import views
from lictor.core.runtime.agent import Agent
from lictor.core.runtime.answers.meant import services_meant
from lictor.core.runtime.control import Emit
from lictor.core.runtime.desired.hold_inbox import HoldInbox
from lictor.core.runtime.orders.refusals import refuse_infrastructure, refuse_to_hurt, told
from lictor.core.runtime.orders.remote_holds import RemoteHolds
from lictor.core.worded import worded

_ON_DISK = 3.0  # seconds that a disk may take before the answer says that it did not

#: A reason is shown in one line of a table.
_LONGEST = 200

#: For an order of which the services are found on the other node.
_NOBODY = ServiceKey("nobody")


class HoldOrders:
    """The handlers of the two operations."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.ops = {"hold": self._hold, "release": self._release}
        agent.keeper.inbox = HoldInbox(agent.tools.store, self._from_afar)

    async def _hold(self, args: dict[str, Any], who: str, _emit: Emit) -> Any:
        wall, insist = self._agent.tools.clock.wall(), bool(args.get("yes"))
        hold = Hold(
            state=_state(args),
            by=who,
            reason=_reason(args),
            since=wall,
            until=until_from(args, wall),
        )
        if self._is_elsewhere(args):
            order = HoldOrder(_NOBODY, hold.state, who, hold.reason, hold.until, insist)
            return await self._send(order, args)
        return await once_on_disk(self._agent, self._place(self._keys(args), hold, insist=insist))

    def _place(self, keys: list[ServiceKey], hold: Hold, *, insist: bool) -> list[dict[str, Any]]:
        agent, who = self._agent, hold.by
        meant = services_meant(agent, [str(key) for key in keys])
        refuse_infrastructure(agent, meant)
        if hold.state is DesiredState.STOPPED and not insist:
            refuse_to_hurt(agent, meant, "stop")
        for key in keys:
            self._refuse_anothers(key, who)
        rows = []
        for key in keys:
            before = agent.holds.held.get(key)
            same = before is not None and _same(before, hold)
            if not same:
                agent.holds.place(key, hold)
                what = because("hold.placed", by=who, state=hold.state.value, why=hold.reason)
                agent.record("hold", str(key), what, who=who, outcome="done", until=hold.until)
            rows.append(_row(key, told(hold), "already" if same else "done"))
        agent.desired_changed()
        return rows

    async def _release(self, args: dict[str, Any], who: str, _emit: Emit) -> Any:
        why = as_line(str(args.get("reason") or ""))[:_LONGEST]
        if self._is_elsewhere(args):
            return await self._send(HoldOrder(_NOBODY, None, who, why), args)
        return await once_on_disk(self._agent, self._let_go(self._keys(args), who, why))

    def _is_elsewhere(self, args: dict[str, Any]) -> bool:
        return args.get("node") not in {None, "", self._agent.node}

    async def _send(self, order: HoldOrder, args: dict[str, Any]) -> list[dict[str, Any]]:
        return await RemoteHolds(self._agent).send(order, str(args["node"]), _names(args))

    def _from_afar(self, order: HoldOrder) -> None:
        """Carry out what was ordered on another node, or tell the journal why not."""
        agent, wall = self._agent, self._agent.tools.clock.wall()
        if order.until is not None and order.until <= wall:
            return
        try:
            services_meant(agent, [str(order.key)])
            if order.state is None:
                self._let_go([order.key], order.by, order.reason)
            else:
                hold = Hold(order.state, order.by, order.reason, wall, order.until)
                self._place([order.key], hold, insist=order.insist)
        except LictorError as error:
            verb = "hold" if order.state is not None else "release"
            why = because("outcome.refused", verb=verb, by=order.by, why=error.message)
            agent.record("outcome", str(order.key), why, who=order.by, outcome="refused")

    def _let_go(self, keys: list[ServiceKey], who: str, why: str) -> list[dict[str, Any]]:
        agent = self._agent
        found = {key: self._covered(key) for key in keys}
        for key in keys:
            self._refuse_part_of_whole(key, found[key])
        rows = []
        for key in keys:
            for held in found[key]:
                agent.holds.release(held)
                what = because("hold.released", by=who)
                if why:
                    what = because("hold.released_because", by=who, why=why)
                agent.record("hold", str(held), what, who=who, outcome="done")
                rows.append(_row(held, [what], "done"))
            if not found[key]:
                rows.append(_row(key, [because("hold.none")], "already"))
        agent.desired_changed()
        return rows

    def _keys(self, args: dict[str, Any]) -> list[ServiceKey]:
        """The keys as typed: `piper` is the whole service. Unknown names raise."""
        names = _names(args)
        services_meant(self._agent, names)
        return list(dict.fromkeys(ServiceKey.parse(str(name)) for name in names))

    def _covered(self, key: ServiceKey) -> list[ServiceKey]:
        """The holds that a released name means: its own, and those of its instances."""
        return [held for held in self._agent.holds.held if held.meant_by(key)]

    def _refuse_anothers(self, key: ServiceKey, who: str) -> None:
        holds, wall = self._agent.holds.held, self._agent.tools.clock.wall()
        others = [holds[held] for held in self._covered(key)]
        above = hold_of(key, holds, wall)
        for hold in (*others, *([above] if above else [])):
            if hold.by != who:
                held = because("order.held_already", service=str(key))
                ends = because("next.end_hold", service=str(key))
                raise worded(Refused, held, *told(hold), hint=ends, code="held")

    def _refuse_part_of_whole(self, key: ServiceKey, found: list[ServiceKey]) -> None:
        whole = ServiceKey(key.name)
        if key.instance and not found and whole in self._agent.holds.held:
            raise worded(
                UsageError,
                because("hold.of_whole", service=str(key), whole=str(whole)),
                hint=because("next.end_hold", service=str(whole)),
            )


async def once_on_disk(agent: Agent, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answer to an order that is kept here only: given when it would survive the agent.

    If the disk does not take it, each row says so.
    """
    if not rows:
        return rows
    flushed = asyncio.wrap_future(agent.tools.store.flushed())
    try:
        async with asyncio.timeout(_ON_DISK):
            safe = await flushed
    except TimeoutError:
        safe = False
    if not safe:
        unsafe = because("hold.unsaved")
        for row in rows:
            row["sentence"] += f" {views.say(unsafe)}"
            row.setdefault("reasons", []).append({"code": unsafe.code, "params": {}})
    return rows


def until_from(args: dict[str, Any], wall: float) -> float | None:
    """`until` (RFC 3339) as Unix seconds; a time that is over is a mistake."""
    text = args.get("until")
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(str(text))
        until = moment.astimezone(moment.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError, OSError):
        raise worded(UsageError, because("ask.until", until=str(text))) from None
    if until <= wall:
        raise worded(UsageError, because("ask.until_over", until=str(text)))
    return until


def _names(args: dict[str, Any]) -> list[object]:
    names = list(args.get("names") or ())
    if not names:
        raise worded(UsageError, because("ask.hold_names"))
    return names


def _state(args: dict[str, Any]) -> DesiredState:
    try:
        return DesiredState(str(args.get("state") or "stopped"))
    except ValueError:
        raise worded(UsageError, because("ask.state")) from None


def _reason(args: dict[str, Any]) -> str:
    reason = as_line(str(args.get("reason") or ""))
    if not reason:
        raise worded(UsageError, because("ask.reason"))
    if len(reason) > _LONGEST:
        raise worded(UsageError, because("ask.reason_long", limit=_LONGEST))
    return reason


def _same(one: Hold, other: Hold) -> bool:
    return (one.state, one.reason, one.until) == (other.state, other.reason, other.until)


def _row(key: ServiceKey, parts: list[Reason], result: str) -> dict[str, Any]:
    return {
        "service": str(key),
        "result": result,
        "sentence": " ".join(views.say(part) for part in parts),
        "reason": parts[0].code,
        "reason_params": dict(parts[0].params),
        "reasons": [{"code": part.code, "params": dict(part.params)} for part in parts],
    }
