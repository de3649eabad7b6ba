"""What a start changes for one run: variables and parameters that the definition names.

`start` and `restart` may carry values for names that config.yml lists under `env` or `params` of
that service, and for no other name: a caller can choose, and never bring in a variable that changes
what a program loads. They hold for the run and the restarts that follow it by themselves, until the
next start that somebody orders plainly. They live in memory only, the journal holds names and never
values, and the fingerprint of the run is that of the plain definition: an agent that comes later
adopts the run as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lictor.core.config.params import misfit_as_order
from lictor.core.errors import Refused, UsageError
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import because
from lictor.core.model.secret import is_secret, shown
from lictor.core.model.spec import ParamSpec, ParamValue, ServiceSpec
from lictor.core.worded import worded

if TYPE_CHECKING:
    from lictor.core.runtime.agent import Agent

_MOST = 50  # values
_LONGEST = 4096  # characters
_LATER = 0.001  # seconds; orders are written to the millisecond


@dataclass(frozen=True, slots=True)
class Extra:
    """The values of one service; `at` is when they were ordered, Unix seconds."""

    at: float
    env: Mapping[str, str]
    params: Mapping[str, ParamValue]


class OneRun:
    """The values in force, by service."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._extra: dict[ServiceKey, Extra] = {}

    def ordered(
        self, keys: Iterable[ServiceKey], verb: str, who: str, given: object, at: float
    ) -> None:
        """A start or restart was asked for: take its values, or forget those of the run before.

        Raises `UsageError` for a name or value that the definition does not allow, and `Refused`
        when a start would not start anything; nothing has changed then.
        """
        keys = list(keys)
        if not given:
            if verb != "stop":
                for key in keys:
                    if verb == "restart" or not self._runs(key):
                        self._extra.pop(key, None)
            return
        if verb == "stop":
            raise worded(UsageError, because("ask.stop_values"))
        found = {key: self._checked(key, given, at) for key in keys}
        for key in keys:
            if verb == "start" and self._runs(key):
                without = because("order.runs_without", service=str(key))
                hint = because("next.restart_with")
                raise worded(Refused, without, hint=hint, code="already_running")
        self._extra.update(found)
        for key, extra in found.items():
            names = ", ".join([*extra.env, *extra.params])
            said = because("start.once", by=who, verb=verb, names=names)
            self._agent.record("verb", str(key), said, who=who)

    def dressed(self, spec: ServiceSpec) -> ServiceSpec:
        """The definition as this run starts it."""
        extra = self._extra.get(spec.key)
        if extra is None:
            return spec
        want = self._agent.reconciler.desired.get(spec.key)
        if want is not None and (want.restart_wall or 0.0) > extra.at + _LATER:
            del self._extra[spec.key]  # somebody has ordered another start since, perhaps in KV
            return spec
        return replace(spec, env={**spec.env, **extra.env}).with_params(extra.params)

    def names(self, key: ServiceKey) -> list[str]:
        """Which names have other values than the definition says."""
        extra = self._extra.get(key)
        return [] if extra is None else sorted([*extra.env, *extra.params])

    def _runs(self, key: ServiceKey) -> bool:
        return self._agent.reconciler.runners[key].state.phase.running

    def _checked(self, key: ServiceKey, given: object, at: float) -> Extra:
        if not isinstance(given, dict) or len(given) > _MOST:
            raise worded(UsageError, because("ask.values", limit=_MOST))
        spec = self._agent.reconciler.runners[key].spec
        env: dict[str, str] = {}
        params: dict[str, ParamValue] = {}
        for name, value in given.items():
            of = because("param.of", service=str(key), name=str(name))
            if name in spec.params:
                params[name] = typed(name, value, spec.params[name])
                refuse_misfit(key, name, params[name], spec.params[name])
            elif name in spec.env_names:
                if not isinstance(value, str) or "\0" in value or len(value) > _LONGEST:
                    raise worded(UsageError, of, because("param.long_text", limit=_LONGEST))
                env[name] = value
            else:
                raise _unnamed(spec, str(name))
        return Extra(at, env, params)


def _unnamed(spec: ServiceSpec, name: str) -> UsageError:
    visible = repr(name[:40])[1:-1]
    none = because("param.not_named", service=str(spec.key), name=visible)
    known = ", ".join([*spec.env_names, *spec.params])
    hint = because("next.names_are", known=known) if known else because("next.names_none")
    return worded(UsageError, none, hint=hint)


def refuse_misfit(key: ServiceKey, name: str, value: ParamValue, spec: ParamSpec) -> None:
    """Raise `UsageError` for a value that a person may not set; a secret is not repeated in it."""
    problem = misfit_as_order(spec, value)
    if problem is not None:
        of = because("param.of", service=str(key), name=name)
        why = because("param.secret") if is_secret(name) else problem
        raise worded(UsageError, of, why, hint=because("next.unchanged"))


def typed(name: str, value: object, spec: ParamSpec) -> ParamValue:
    """What was typed as text, as the parameter's own type (that of its default)."""
    text = str(value).strip()
    try:
        if isinstance(spec.default, bool):
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[
                text.lower()
            ]
        if isinstance(spec.default, int):
            return int(text)
        if isinstance(spec.default, float):
            return float(text)
    except (KeyError, ValueError):
        kind, got = type(spec.default).__name__, str(shown(name, repr(text)[1:-1]))
        other = because("param.other_type", name=name, got=got, kind=kind)
        raise worded(UsageError, other) from None
    return str(value)
