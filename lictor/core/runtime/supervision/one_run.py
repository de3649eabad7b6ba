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

from lictor.core.config.params import bad_order
from lictor.core.errors import Refused, UsageError
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import because
from lictor.core.model.spec import ParamSpec, ParamValue, ServiceSpec

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
            raise UsageError("A stop takes no values.")
        found = {key: self._checked(key, given, at) for key in keys}
        for key in keys:
            if verb == "start" and self._runs(key):
                raise Refused(
                    f"{key} runs already, without these values.",
                    hint="Restart it with them.",
                    code="already_running",
                )
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
            raise UsageError(f"The values must be an object with at most {_MOST} names.")
        spec = self._agent.reconciler.runners[key].spec
        env: dict[str, str] = {}
        params: dict[str, ParamValue] = {}
        for name, value in given.items():
            if name in spec.params:
                params[name] = typed(name, value, spec.params[name])
                problem = bad_order(spec.params[name], params[name])
                if problem:
                    raise UsageError(f"{key} {name}: {problem}.", hint="Nothing was changed.")
            elif name in spec.env_names:
                if not isinstance(value, str) or "\0" in value or len(value) > _LONGEST:
                    raise UsageError(
                        f"{key} {name}: expected text of at most {_LONGEST} characters."
                    )
                env[name] = value
            else:
                known = ", ".join([*spec.env_names, *spec.params]) or "none"
                raise UsageError(
                    f"config.yml names no {str(name)[:40]!r} for {key}.",
                    hint=f"It names under env and params: {known}.",
                )
        return Extra(at, env, params)


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
        kind = type(spec.default).__name__
        raise UsageError(f"{name}={text!r} is not a value of type {kind}.") from None
    return str(value)
