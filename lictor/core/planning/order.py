"""Who waits for whom: dependencies between services, and the cycles they must not form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lictor.core.model.desired import Desired
from lictor.core.model.names import ServiceKey


def find_cycle(edges: Mapping[str, Iterable[str]]) -> tuple[str, ...] | None:
    """One cycle, closed (`("a", "b", "a")`), or None. Deterministic for a given mapping order."""
    done: set[str] = set()
    for start in edges:
        path: list[str] = []
        found = _walk(start, edges, path, done)
        if found:
            return found
    return None


def _walk(
    node: str, edges: Mapping[str, Iterable[str]], path: list[str], done: set[str]
) -> tuple[str, ...] | None:
    if node in done:
        return None
    if node in path:
        return (*path[path.index(node) :], node)
    path.append(node)
    for following in edges.get(node, ()):
        found = _walk(following, edges, path, done)
        if found:
            return found
    path.pop()
    done.add(node)
    return None


def instances_of(name: str, keys: Iterable[ServiceKey]) -> tuple[ServiceKey, ...]:
    """Every key of that service name: depending on a service means on all of its instances."""
    return tuple(key for key in keys if key.name == name)


def dependents(name: str, desired: Desired) -> tuple[ServiceKey, ...]:
    """Services that need `name`, directly."""
    return tuple(
        key
        for key, want in desired.items()
        if any(dep.name == name for dep in want.spec.depends_on)
    )


def waves(desired: Desired) -> Sequence[tuple[ServiceKey, ...]]:
    """Start order: each wave may start when the one before it is ready. For showing, not acting."""
    remaining = dict(desired)
    placed: set[str] = set()
    result: list[tuple[ServiceKey, ...]] = []
    while remaining:
        names = {key.name for key in remaining}
        wave = tuple(
            key
            for key, want in remaining.items()
            if not any(d.name in names and d.name not in placed for d in want.spec.depends_on)
        )
        if not wave:  # a cycle; the config loader refuses those, so only a bug gets here
            wave = tuple(remaining)
        result.append(wave)
        for key in wave:
            del remaining[key]
        placed |= {key.name for key in wave} - {key.name for key in remaining}
    return result
