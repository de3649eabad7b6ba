"""Which service of a new config is one of the old config under another name, and how it takes over.

A person who renames a service in config.yml takes one out and adds one that does the same. Done at
once that is a gap: the old name ends while the new one still loads. Here the pairs are found, and
whether both can run side by side for a while. It decides by what a definition says and guesses no
further: one that runs another program is another service.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ParamRef, ServiceSpec

_EVERYWHERE = frozenset({"", "*", "0.0.0.0", "::", "[::]"})  # noqa: S104 - compared, never bound

Specs = Mapping[ServiceKey, ServiceSpec]


def renamed(before: Specs, after: Specs) -> dict[ServiceKey, ServiceKey]:
    """The new name of each service that is only called otherwise now, by its old name.

    Two definitions are one service if they run the same (program, jobs, folder, image, or for an
    observed one what is asked) but for the name and the port in it. Where several fit, the same
    instance and then the same port come first; each is taken once.
    """
    added = {key: spec for key, spec in after.items() if key not in before}
    found: dict[ServiceKey, ServiceKey] = {}
    for old, spec in before.items():
        if old in after:
            continue
        same = [key for key, other in added.items() if _shape(other) == _shape(spec)]
        if same:
            heir = min(same, key=lambda key: _distance(spec, added[key]))
            found[old] = heir
            del added[heir]
    return found


def side_by_side(old: ServiceSpec, new: ServiceSpec) -> bool:
    """Whether both may run at the same time, so that the old one can stay until the new is ready.

    Not with the same port, the same name of a container, or a GPU for each; nor without any port:
    nobody finds such a service by its name, and two of one worker or bot may harm each other.
    """
    if old.driver == "observed" or new.driver == "observed":
        return True
    if old.port is None or new.port is None or (old.gpu is not None and new.gpu is not None):
        return False
    container = old.docker.name if old.docker is not None else None
    if container is not None and new.docker is not None and container == new.docker.name:
        return False
    return old.port != new.port or not _overlap(old.host, new.host)


def _overlap(one: str, other: str) -> bool:
    return one == other or one in _EVERYWHERE or other in _EVERYWHERE


def _distance(spec: ServiceSpec, other: ServiceSpec) -> tuple[bool, bool]:
    return spec.key.instance != other.key.instance, spec.port != other.port


def _shape(spec: ServiceSpec) -> tuple[object, ...]:
    """What it runs, with its own name and port left open."""
    probe = spec.health.probe
    asked = probe.target if probe is not None and isinstance(probe.target, str) else ""
    return (
        spec.driver,
        _plain(spec, spec.command),
        tuple(_plain(spec, job) for job in spec.before),
        spec.cwd,
        spec.docker.image if spec.docker is not None else None,
        _open(spec, asked) if spec.driver == "observed" else None,
    )


def _plain(spec: ServiceSpec, argv: Iterable[str | ParamRef]) -> tuple[str | ParamRef, ...]:
    return tuple(part if isinstance(part, ParamRef) else _open(spec, part) for part in argv)


def _open(spec: ServiceSpec, text: str) -> str:
    if spec.port is not None:
        text = text.replace(str(spec.port), "{port}")
    return text.replace(spec.key.name, "{name}")
