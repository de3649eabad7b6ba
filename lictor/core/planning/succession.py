"""Which service of a new config is one of the old config under another name, and how it takes over.

A person who renames a service in config.yml takes one out and adds one that does the same. Done at
once that is a gap: the old name ends while the new one still loads. Here the pairs are found, and
whether both can run side by side for a while. It decides by what a definition says and guesses no
further: one that runs another program is another service.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ParamRef, ServiceSpec

_EVERYWHERE = frozenset({"", "*", "0.0.0.0", "::", "[::]"})  # noqa: S104 - compared, never bound

Specs = Mapping[ServiceKey, ServiceSpec]


def renamed(before: Specs, after: Specs) -> dict[ServiceKey, ServiceKey]:
    """The new name of each service that is only called otherwise now, by its old name.

    Two definitions are one service if they run the same (program, jobs, folder, what the definition
    adds to the environment, image) but for the name and the port in it. Where several fit, the same
    instance and then the same port come first; each is taken once.
    """
    added = {key: spec for key, spec in after.items() if key not in before}
    found: dict[ServiceKey, ServiceKey] = {}
    for old, spec in before.items():
        if old in after:
            continue
        same = [key for key, other in added.items() if _same(spec, other)]
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


def _same(old: ServiceSpec, new: ServiceSpec) -> bool:
    """Whether both run the same; what is only observed is known by its place."""
    if old.driver != new.driver:
        return False
    if old.driver == "observed":
        return (old.address, old.port) == (new.address, new.port)
    image = [spec.docker and (spec.docker.image, spec.docker.volumes) for spec in (old, new)]
    jobs = zip(old.before, new.before, strict=False)
    return (
        _alike(old, new, old.command, new.command)
        and len(old.before) == len(new.before)
        and all(_alike(old, new, one, other) for one, other in jobs)
        and old.cwd == new.cwd
        and set(old.env_names) == set(new.env_names)
        and _alike(old, new, _added(old), _added(new))
        and image[0] == image[1]
    )


def _added(spec: ServiceSpec) -> list[str | ParamRef]:
    return [spec.env[name] for name in sorted(spec.env_names) if name in spec.env]


def _alike(
    old: ServiceSpec,
    new: ServiceSpec,
    one: Sequence[str | ParamRef],
    other: Sequence[str | ParamRef],
) -> bool:
    """Whether two command lines differ in the names and ports of their services only."""
    return len(one) == len(other) and all(
        mine == theirs or (isinstance(mine, str) and theirs in _retold(mine, old, new))
        for mine, theirs in zip(one, other, strict=True)
    )


def _retold(text: str, old: ServiceSpec, new: ServiceSpec) -> frozenset[str]:
    """What a word of the old definition may have become: a program may be called like a service."""
    words = [text]
    if old.port is not None and new.port is not None:
        words.append(_word(str(old.port)).sub(str(new.port), text))
    return frozenset([*words, *(_word(old.key.name).sub(new.key.name, word) for word in words)])


def _word(text: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Za-z0-9]){re.escape(text)}(?![A-Za-z0-9])")
