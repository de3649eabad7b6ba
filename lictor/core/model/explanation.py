"""Why a service can be found under its name, or why not: facts, the chain made of them, a verdict.

    desired → process → agent → catalog → check → DNS

The facts are a snapshot of what each link of the chain says of itself; `planning.explain` makes the
chain of them. Every fact that had to be read is `Known` or `Unknown`, because "nobody could say" is
another answer than "it is not there".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from lictor.core.model.access import Rule
from lictor.core.model.desired import DesiredService
from lictor.core.model.known import Known, Unknown
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Reason, because
from lictor.core.model.registration import SeenCheck, SeenService
from lictor.core.model.state import ServiceState

_OK = because("consul.ok")
_NOT_ASKED = Unknown(because("consul.connecting"))


class Link(StrEnum):
    """The links of the chain, in order."""

    DESIRED = "desired"
    PROCESS = "process"
    AGENT = "agent"  # the local Consul agent
    CATALOG = "catalog"  # what the Consul servers know
    CHECK = "check"
    DNS = "dns"


class Verdict(StrEnum):
    """How a link looks, and the whole chain: the first link that is not `ok` decides."""

    OK = "ok"
    GAP = "gap"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class CatalogNode:
    """The node of the local Consul agent, as that agent and as the catalog know it.

    `agent_id` and `catalog_id` are node ids (uuids); `catalog_id` "": the catalog has no such node,
    or it may not be read. They differ when a wiped agent took a name that is still reserved.
    """

    name: str
    agent_id: str
    catalog_id: str


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """Our entry in the catalog. `health` is the worst of its checks, `output` what that one says."""

    node: str
    address: str
    port: int
    health: str
    output: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DnsSeen:
    """What Consul's DNS answers: `places` are (address, port) of every SRV record."""

    question: str
    server: str
    rcode: str
    places: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class AgentEntry:
    """Our entry at the local Consul agent, with its checks."""

    service: SeenService
    checks: tuple[SeenCheck, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What each link says of one service, at one time.

    `want` None: it is no longer in the config. `why` explains the process. `consul` is `consul.ok`
    or why Consul cannot be used. `at_agent` and `in_catalog`: Known(None) is "not there".
    `foreign`: somebody else holds our id. `refused` is Consul's own word about an entry that it does
    not take. `denied` are the rules that the token lacks. `probe` is what our own probe says of the
    service just now, asked only if Consul's check fails. `group` is its entry under its group's name.
    """

    key: ServiceKey
    service_id: str
    want: DesiredService | None
    state: ServiceState
    why: Reason
    consul: Reason = _OK
    at_agent: Known[AgentEntry | None] | Unknown = _NOT_ASKED
    in_catalog: Known[CatalogEntry | None] | Unknown = _NOT_ASKED
    node: Known[CatalogNode] | Unknown = _NOT_ASKED
    dns: Known[DnsSeen] | Unknown = _NOT_ASKED
    foreign: bool = False
    refused: str = ""
    denied: tuple[Rule, ...] = ()
    acl: bool = False
    probe: bool | None = None
    group: CatalogEntry | None = None
    desired_unknown: Reason | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One link: how it looks and what it says, as a reason."""

    link: Link
    verdict: Verdict
    value: Reason


@dataclass(frozen=True, slots=True)
class Explanation:
    """The chain, the one reason for the first link that is not ok, and what to do next.

    `reason` of a chain without a gap says that it can be found. `step` None: nothing is to be done.
    `notes` are worth knowing and no gap.
    """

    key: ServiceKey
    verdict: Verdict
    steps: tuple[Step, ...]
    reason: Reason
    step: Reason | None = None
    notes: tuple[Reason, ...] = ()

    def seen(self) -> Mapping[str, str]:
        """Each link's verdict, by its name."""
        return {step.link.value: step.verdict.value for step in self.steps}
