"""A config as Lictor understood it, as plain data, with the secrets masked.

For `lictor config show`: every default filled in, every template and placeholder expanded, in the
words and units of config.yml. Values that are secret by their name, and passwords inside URLs, are
shown as `***`: people paste this output into tickets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

from lictor.core.config.settings import Config
from lictor.core.config.units import format_duration, format_size
from lictor.core.model.container import ContainerSpec
from lictor.core.model.gpu import GpuSpec
from lictor.core.model.install import InstallSpec
from lictor.core.model.secret import MASK, is_secret
from lictor.core.model.spec import Limits, ParamRef, ProbeSpec, RecycleSpec, ServiceSpec

_SIZES = ("memory", "shm_size", "size")
_URL_PASSWORD = re.compile(r"(?<=://)([^/\s:@]*):[^/\s@]+@")


def as_plain(config: Config) -> dict[str, object]:
    """The whole configuration as dicts, lists and scalars, safe to show."""
    return {
        "path": str(config.path),
        "agent": _settings(config.agent),
        "consul": _settings(config.consul),
        "web": _settings(config.web),
        "services": {str(key): service(spec) for key, spec in config.services.items()},
        "allocated_ports": dict(config.allocated_ports),
    }


def masked(name: str, value: str) -> str:
    """A variable's value as it may be shown."""
    if is_secret(name):
        return MASK
    return _URL_PASSWORD.sub(rf"\1:{MASK}@", value)


def service(spec: ServiceSpec) -> dict[str, object]:
    """One service, in the words of config.yml; keys that say nothing are left out."""
    plain: dict[str, object] = {
        "name": spec.display_name,
        "description": spec.description,
        "driver": spec.driver,
        "command": [_word(part) for part in spec.command],
        "before": [[_word(part) for part in job] for job in spec.before],
        "cwd": spec.cwd,
        "env": {name: masked(name, _word(value)) for name, value in spec.env.items()},
        "user": f"{spec.user}:{spec.group}" if spec.group else spec.user,
        "umask": None if spec.umask is None else f"{spec.umask:03o}",
        "host": spec.host,
        "address": spec.address,
        "port": spec.port,
        "health": _health(spec),
        "checks": {name: _probe(probe) for name, probe in spec.checks.items()},
        "restart": {
            "policy": spec.restart.policy,
            "backoff": format_duration(spec.restart.backoff),
            "max_backoff": format_duration(spec.restart.max_backoff),
            "max_restarts": "unlimited"
            if spec.restart.max_restarts is None
            else spec.restart.max_restarts,
            "reset_after": format_duration(spec.restart.reset_after),
        },
        "stop": {
            "signal": spec.stop.signal,
            "timeout": format_duration(spec.stop.timeout),
            "pause": format_duration(spec.stop.pause),
        },
        "limits": _limits(spec.limits),
        "depends_on": {dep.name: {"required": dep.required} for dep in spec.depends_on},
        "optional": spec.optional,
        "activation": spec.activation,
        "recycle": _recycle(spec.recycle),
        "log": {"max_size": format_size(spec.log.max_size), "keep": spec.log.keep},
        "logs": list(spec.logs),
        "params": _params(spec),
        "group": spec.voice_group,
        "rank": spec.rank,
        "modes": list(spec.modes),
        "owner": spec.owner,
        "tags": list(spec.tags),
        "meta": dict(spec.meta),
        "register": spec.registered,
        "docker": _container(spec),
        "gpu": _given(spec.gpu),
        "install": _given(spec.install),
        **_later(spec.later),
    }
    empty: tuple[object, ...] = (None, "", [], {})
    return {key: value for key, value in plain.items() if value not in empty}


def _word(part: str | ParamRef) -> str:
    return f"{{param.{part.name}}}" if isinstance(part, ParamRef) else part


def _health(spec: ServiceSpec) -> object:
    health = spec.health
    if health.probe is None:
        return "none"
    return {
        **_probe(health.probe),
        "startup": format_duration(health.startup),
        "failures": health.failures,
        "on_unhealthy": health.on_unhealthy,
        **({} if health.stalled is None else {"stalled": format_duration(health.stalled)}),
    }


def _probe(probe: ProbeSpec) -> dict[str, object]:
    return {
        probe.kind: list(probe.argv) if probe.kind == "command" else probe.target,
        "interval": format_duration(probe.interval),
        "timeout": format_duration(probe.timeout),
    }


def _params(spec: ServiceSpec) -> dict[str, object]:
    result: dict[str, object] = {}
    for name, param in spec.params.items():
        secret = is_secret(name)
        shown: dict[str, object] = {"default": MASK if secret else spec.param(name)}
        if param.choices:
            shown["choices"] = MASK if secret else list(param.choices)
        if param.pattern is not None:
            shown["pattern"] = param.pattern
        result[name] = shown
    return result


def _limits(limits: Limits) -> dict[str, object]:
    sizes = {} if limits.memory is None else {"memory": format_size(limits.memory)}
    return {**limits.given(), **sizes}


def _recycle(recycle: RecycleSpec) -> dict[str, object]:
    rss = None if recycle.rss is None else format_size(recycle.rss)
    age = None if recycle.age is None else format_duration(recycle.age)
    return {name: value for name, value in (("rss", rss), ("age", age)) if value is not None}


def _container(spec: ServiceSpec) -> dict[str, object] | None:
    found = _given(spec.docker)
    if found is not None and spec.container_command is not None:
        found["command"] = [_word(part) for part in spec.container_command]
    return found


def _given(part: ContainerSpec | GpuSpec | InstallSpec | None) -> dict[str, object] | None:
    """What was said of a container, a GPU or an installation, as it would be written."""
    if part is None:
        return None
    result: dict[str, object] = {}
    for name, value in asdict(part).items():
        if name == "init" and value:
            continue  # as it is by itself
        if name != "init" and value in (None, (), False, ""):
            continue
        if name in _SIZES:
            result[name] = format_size(value)
        else:
            result[name] = list(value) if isinstance(value, tuple) else value
    return result


def _later(later: Mapping[str, object]) -> dict[str, object]:
    return {
        name: format_duration(raw) if name == "idle_timeout" and isinstance(raw, float) else raw
        for name, raw in later.items()
    }


def _settings(settings: object) -> dict[str, object]:
    result: dict[str, object] = {}
    for setting in fields(settings):  # type: ignore[arg-type]  # only our own dataclasses come here
        value = getattr(settings, setting.name)
        if setting.name == "token" and value:
            value = MASK
        elif setting.name == "port_range":
            value = f"{value[0]}-{value[1]}"
        elif setting.name == "tls" and value is not None:
            value = {"cert": str(value.cert), "key": str(value.key)}
        elif isinstance(value, Path):
            value = str(value)
        elif isinstance(value, tuple):
            value = list(value)
        result[setting.name] = value
    return result
