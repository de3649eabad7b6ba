"""What people have laid over the config of one service: its parameters, and an operator's hold.

It answers "what can I set here, and who set what is in force?", and nothing else says it in one
place. The value of a secret is never in it, nor is what it might be. It changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lictor.core.errors import UsageError
from lictor.core.model.desired import Override, Source
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import because
from lictor.core.model.secret import is_secret, shown
from lictor.core.model.spec import ParamSpec
from lictor.core.planning.overrides import hold_of
from lictor.core.runtime import views
from lictor.core.runtime.answers.meant import services_meant
from lictor.core.runtime.control import Emit
from lictor.core.worded import worded

if TYPE_CHECKING:
    from lictor.core.runtime.agent import Agent

_TYPES = {bool: "bool", int: "int", float: "float", str: "text"}


class OverridesView:
    """The operations `params` and `holding`, each about the one service `name`."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.ops = {"params": self._params, "holding": self._holding}

    async def _params(self, args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        """Its parameters, and who set what differs from the config."""
        key = self._key(args)
        spec = self._agent.reconciler.runners[key].spec
        want = self._agent.reconciler.desired.get(key)
        spec = want.spec if want is not None else spec
        sources: dict[str, Source] = {}
        last: Override | None = None
        for source, document in self._layers(key):
            sources |= dict.fromkeys(document.params, source)
            last = document if document.params else last
        refused = want.refused if want is not None else None
        return {
            "service": str(key),
            "params": [
                _row(name, known, spec.param(name), sources.get(name, Source.CONFIG))
                for name, known in spec.params.items()
            ],
            "by": last.by if last is not None else "",
            "why": last.reason if last is not None else "",
            "until": last.until if last is not None else None,
            "refused": views.say(refused) if refused is not None else None,
        }

    def _layers(self, key: ServiceKey) -> Iterator[tuple[Source, Override]]:
        """The documents in force about it, the weakest first (as `planning.overrides` has them)."""
        documents, wall = self._agent.keeper.documents, self._agent.tools.clock.wall()
        places = dict.fromkeys((ServiceKey(key.name), key))
        for source, found in (
            (Source.KV_ALL, documents.all_nodes),
            (Source.KV_NODE, documents.node),
        ):
            for place in places:
                document = found.get(place)
                if document is not None and (document.until is None or document.until > wall):
                    yield source, document

    async def _holding(self, args: dict[str, Any], _who: str, _emit: Emit) -> Any:
        """Whether somebody holds it; `as` is the name to release: the whole service may be held."""
        key = self._key(args)
        holds = self._agent.holds.held
        hold = hold_of(key, holds, self._agent.tools.clock.wall())
        if hold is None:
            return {"service": str(key), "hold": None}
        name = key if holds.get(key) is hold else ServiceKey(key.name)
        told = {
            "as": str(name),
            "state": hold.state.value,
            "by": hold.by,
            "reason": hold.reason,
            "since": hold.since,
            "until": hold.until,
        }
        return {"service": str(key), "hold": told}

    def _key(self, args: dict[str, Any]) -> ServiceKey:
        if not args.get("name"):
            raise worded(UsageError, because("ask.which_service"))
        return services_meant(self._agent, [args["name"]], infrastructure=True)[0]


def _row(name: str, spec: ParamSpec, value: object, source: Source) -> dict[str, Any]:
    secret = is_secret(name)
    return {
        "name": name,
        "type": _TYPES[type(spec.default)],
        "value": shown(name, value),
        "default": shown(name, spec.default),
        "choices": [] if secret else list(spec.choices),
        "pattern": None if secret else spec.pattern,
        "secret": secret,
        "source": source.value,
    }
