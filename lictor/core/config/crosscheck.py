"""What only shows when all services are seen together, or on the way into Consul.

Each rule here guards against something that would otherwise fail later, in a place where nobody
looks: two services that fight for a port restart each other for ever, a cycle of dependencies waits
for ever, a meta value over Consul's limit makes the whole registration fail.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from lictor.core.config.build import WILDCARDS
from lictor.core.config.problems import Problems, dotted, suggest
from lictor.core.config.services import Candidate
from lictor.core.config.settings import WebSettings
from lictor.core.model.names import RESERVED, ServiceKey
from lictor.core.model.spec import ServiceSpec

#: Consul's limits (agent/structs/structs.go, ValidateServiceMetadata), and what we need of them.
META_PAIRS, META_OURS = 64, 12
META_KEY, META_VALUE = 128, 512
_META_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SECRET_META = re.compile(
    r"(?:^|[_-])(?:token|secret|passw(?:or)?d|credential|(?:api|private|access)[_-]?key)s?(?:$|[_-])",
    re.IGNORECASE,
)

Pairs = Sequence[tuple[Candidate, ServiceSpec]]


def crosscheck(
    found: Sequence[Candidate],
    built: Mapping[ServiceKey, ServiceSpec],
    names: Sequence[str],
    web: WebSettings,
    problems: Problems,
) -> None:
    """Write down everything that is wrong between services.

    `names` are those of all services of the file; `built` may lack some that are wrong.
    """
    pairs = [(c, built[c.key]) for c in found if c.key in built]
    _groups(pairs, names, problems)
    _dependencies(pairs, names, problems)
    _cycles(pairs, problems)
    _ports(pairs, web, problems)
    for candidate, spec in pairs:
        _meta(candidate, spec, problems)


def _groups(pairs: Pairs, names: Sequence[str], problems: Problems) -> None:
    for candidate, spec in pairs:
        group = spec.voice_group
        if group is None:
            continue
        if group in names:
            message = f"`{group}` is the name of a service already; both become names in DNS"
            candidate.subject.complain(problems, ("group",), message)
        elif group in RESERVED:
            message = f"the name `{group}` is taken in Consul"
            candidate.subject.complain(problems, ("group",), message)


def _dependencies(pairs: Pairs, names: Sequence[str], problems: Problems) -> None:
    groups = {spec.voice_group for _, spec in pairs}
    for candidate, spec in pairs:
        for dependency in spec.depends_on:
            if dependency.name in names:
                continue
            message = f"there is no service `{dependency.name}`"
            hint = suggest(dependency.name, names)
            if dependency.name in groups:
                hint = "that is a group; name one of its services"
            loc = ("depends_on", _as_typed(candidate, dependency.name))
            candidate.subject.complain(problems, loc, message, hint)


def _as_typed(candidate: Candidate, name: str) -> str:
    """The word in `depends_on` that became `name`, so that its place can be found."""
    node = candidate.subject.tree.get("depends_on")
    words = list(getattr(node, "entries", ())) + [
        item.text for item in getattr(node, "items", ()) if hasattr(item, "text")
    ]
    same = (word for word in words if word.lower().replace("_", "-") == name)
    return next(same, name)


def _cycles(pairs: Pairs, problems: Problems) -> None:
    edges: dict[str, list[str]] = {}
    for _, spec in pairs:
        edges.setdefault(spec.key.name, []).extend(dep.name for dep in spec.depends_on)
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        cycle: list[str] = list(reversed(error.args[1]))
        first = min(cycle[:-1], key=list(edges).index)
        start = cycle.index(first)
        ring = [*cycle[start:-1], *cycle[:start], first]
        candidate = next(c for c, spec in pairs if spec.key.name == first)
        message = f"these services wait for each other: {' -> '.join(ring)}"
        loc = ("depends_on", _as_typed(candidate, ring[1]))
        candidate.subject.complain(problems, loc, message, "take one of the arrows out")


def _ports(pairs: Pairs, web: WebSettings, problems: Problems) -> None:
    taken: dict[int, list[tuple[str, bool, str]]] = {}
    if web.enabled and web.port:
        taken[web.port] = [(_plain_host(web.host), False, "Lictor's own web server (web.port)")]
    for candidate, spec in pairs:
        if spec.port is None or spec.activation != "always":
            continue
        observed = spec.driver == "observed"
        host = _plain_host(spec.address if observed else spec.host)
        others = taken.setdefault(spec.port, [])
        for other, other_observed, who in others:
            if _clash(host, observed, other, other_observed):
                message = f"port {spec.port} on {host} is already that of {who}"
                candidate.subject.complain(problems, ("port",), message)
                break
        others.append((host, observed, f"`{spec.key}`"))


#: Ports that belong to a well-known program: whoever takes one should know.
_OWNERS = {11434: "Ollama"}


def note_shared_ports(
    found: Sequence[Candidate], built: Mapping[ServiceKey, ServiceSpec], notes: Problems
) -> None:
    """Write down where services that are not always up share a port: only one of them can run."""
    taken: dict[int, list[tuple[str, bool, ServiceSpec]]] = {}
    for candidate in found:
        spec = built[candidate.key]
        if spec.port is None:
            continue
        observed = spec.driver == "observed"
        host = _plain_host(spec.address if observed else spec.host)
        others = taken.setdefault(spec.port, [])
        for other_host, other_observed, other in others:
            if _clash(host, observed, other_host, other_observed):
                owner = _OWNERS.get(spec.port)
                whose = f" (it is {owner}'s usual port)" if owner else ""
                message = f"port {spec.port} is also that of `{other.key}`{whose}: only one can run"
                subject = candidate.subject
                where = dotted((*subject.where, "port"))
                place = subject.find("port").value_place
                notes.add(place, where, message, "give one of them another `port`")
                break
        others.append((host, observed, spec))


def _plain_host(host: str) -> str:
    return "127.0.0.1" if host.lower() == "localhost" else host.lower()


def _clash(host: str, observed: bool, other: str, other_observed: bool) -> bool:  # noqa: FBT001
    if host == other:
        return True
    if host in WILDCARDS and other in WILDCARDS:
        return True
    # A wildcard takes the port on every address of this host; an observed service may be elsewhere.
    if host in WILDCARDS:
        return not other_observed or _loopback(other)
    if other in WILDCARDS:
        return not observed or _loopback(host)
    return False


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _meta(candidate: Candidate, spec: ServiceSpec, problems: Problems) -> None:
    subject = candidate.subject
    most = META_PAIRS - META_OURS
    if len(spec.meta) > most:
        message = f"{len(spec.meta)} pairs; Consul takes {META_PAIRS}, and Lictor needs {META_OURS}"
        subject.complain(problems, ("meta",), message)
    for key, value in spec.meta.items():
        if not _META_KEY.fullmatch(key) or len(key) > META_KEY:
            message = f"Consul takes keys of 1 to {META_KEY} letters, digits, `_` and `-`"
            subject.complain(problems, ("meta", key), message)
        elif key.startswith(("lictor-", "consul-")):
            message = f"keys that begin with {key.split('-', maxsplit=1)[0]}- are reserved"
            subject.complain(problems, ("meta", key), message)
        elif _SECRET_META.search(key):
            message = "whoever can reach Consul reads it: secrets do not belong into meta"
            subject.complain(problems, ("meta", key), message)
        elif len(value.encode()) > META_VALUE:
            message = (
                f"Consul takes values of at most {META_VALUE} bytes, this has {len(value.encode())}"
            )
            subject.complain(problems, ("meta", key), message)
