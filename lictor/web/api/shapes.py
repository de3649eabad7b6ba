"""What the routes take and give, for validation on the way in and for the OpenAPI document.

Bodies are strict about what they carry and lenient about what they do not know; answers may gain
fields and never lose one. Answers are not checked against these at run time (the tests do that).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=1, max_length=200)]
Word = Literal["running", "stopped", "error"]


class RunConfig(BaseModel):
    """What a start may change for this one run."""

    model_config = ConfigDict(extra="forbid")

    env: dict[
        Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)],
        Annotated[str, Field(max_length=4096)],
    ] = Field(default_factory=dict, max_length=50)


class Order(BaseModel):
    """Body of start, stop and restart. `force`: also if others need it."""

    name: Name
    config: RunConfig | None = None
    reason: str = Field(default="", max_length=300)
    force: bool = False


class OrderMore(BaseModel):
    """The same, where the path names the service."""

    config: RunConfig | None = None
    reason: str = Field(default="", max_length=300)
    force: bool = False


class Reload(BaseModel):
    """`config`: read config.yml again. `code`: start the service anew, with its code of today."""

    name: Name | None = None
    type: Literal["config", "code"] = "config"


class Bulk(BaseModel):
    """One action on several services; not `parallel`: each waits for the one before."""

    action: Literal["start", "stop", "restart"]
    services: Annotated[list[Name], Field(min_length=1, max_length=500)]
    parallel: bool = True
    force: bool = False


class Model(BaseModel):
    """Which model a service is to serve."""

    model: Annotated[str, Field(min_length=1, max_length=300)]
    trust_remote_code: bool | None = None
    force: bool = False


class Hold(BaseModel):
    """What a service is held in, why, and until when (RFC 3339). `force`: also if others need it."""

    model_config = ConfigDict(extra="forbid")

    state: Literal["running", "stopped", "maintenance"] = "stopped"
    reason: str = Field(min_length=1, max_length=300)
    until: Annotated[str | None, Field(max_length=50)] = None
    force: bool = False


class Release(BaseModel):
    """Why a hold ends; may be left out."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="", max_length=300)


ParamName = Annotated[str, Field(min_length=1, max_length=100)]


class SetParams(BaseModel):
    """Parameters to set (text is read as the parameter's type), or names of those to unset."""

    model_config = ConfigDict(extra="forbid")

    set: dict[ParamName, Annotated[str, Field(max_length=1000)] | bool | int | float] = Field(
        default_factory=dict, max_length=50
    )
    unset: list[ParamName] = Field(default_factory=list, max_length=50)
    reason: str = Field(default="", max_length=300)
    until: Annotated[str | None, Field(max_length=50)] = None


class LeftoverEntry(BaseModel):
    """One entry by Consul's name of its node, and its id there."""

    model_config = ConfigDict(extra="forbid")

    node: Annotated[str, Field(min_length=1, max_length=300)]
    id: Annotated[str, Field(min_length=1, max_length=300)]


class CleanUp(BaseModel):
    """Entries to be taken out of Consul, each as the list of what was left over shows it."""

    model_config = ConfigDict(extra="forbid")

    entries: Annotated[list[LeftoverEntry], Field(min_length=1, max_length=500)]


class _Open(BaseModel):
    """An answer: it may have more fields than are written here."""

    model_config = ConfigDict(extra="allow")


class Ordered(_Open):
    """What became of an order. `result`: requested, already, pending (Consul is away) or held."""

    status: str
    service: str
    message: str
    result: str
    phase: str | None
    sentence: str | None


class Operation(_Open):
    """One of several."""

    service: str
    status: str


class Operations(_Open):
    """What became of several orders."""

    status: str
    operations: list[Operation]


class Reloaded(_Open):
    """What a reload did."""

    status: str
    service: str | None
    message: str


class Switched(Ordered):
    """What came of asking for a model; `switch` is how far it is."""

    model: str
    before: str | None
    switch: dict[str, Any] | None


class CachedModel(_Open):
    """One model in the cache of a service. Sizes are bytes, times are seconds."""

    id: str
    size_bytes: int
    last_used: str | None
    complete: bool
    current: bool
    in_use_by: list[str]
    usual_s: float | None


class Models(_Open):
    """The model of a service, and those that it could load from its cache."""

    service: str
    current: str | None
    stage: str | None
    open: bool
    cache: str | None
    models: list[CachedModel]


class ModelPlan(_Open):
    """What a switch would lead to."""

    service: str
    model: str
    before: str | None
    usual_s: float | None
    hurts: list[str]
    steps: list[dict[str, Any]]


class ModelRemoved(_Open):
    """A model that was removed from the cache."""

    service: str
    result: str
    model: str
    freed_bytes: int
    sentence: str


class Row(_Open):
    """One service. Null: not measured, not there, or not for this reader (`hidden`)."""

    status: Word
    pid: int | None
    uptime: int | None
    port: int | None
    cpu_percent: float | None
    memory_mb: float | None
    last_restart: str | None
    restart_count: int | None
    name: str
    phase: str
    sentence: str | None
    hidden: bool


class System(_Open):
    """All services together."""

    total_services: int
    running_services: int
    total_memory_mb: float | None
    total_cpu_percent: float | None


class Status(_Open):
    """All services."""

    services: dict[str, Row]
    system: System


class Logs(_Open):
    """The last lines of a service's log."""

    service: str
    logs: list[str]
    total_lines: int


class Health(_Open):
    """What the checks of a service said a moment ago. `response_time` is in milliseconds."""

    service: str
    status: Literal["healthy", "unhealthy", "unknown"]
    checks: dict[str, str]
    response_time: int | None


class LogPage(_Open):
    """A page of a log: lines before the last `offset` ones."""

    logfile: str
    lines: list[str]
    offset: int
    search: str
    total_lines: int
    more: bool


class LogList(_Open):
    """The logs there are."""

    logs: list[dict[str, Any]]


class Events(_Open):
    """A page of the journal, oldest first; `next` is `before` of the page before."""

    events: list[dict[str, Any]]
    more: bool
    next: int | None


class Plan(_Open):
    """What the agent would do now."""

    actions: list[dict[str, Any]]


class Services(_Open):
    """Every service that Consul knows."""

    services: list[dict[str, Any]]


class Instances(_Open):
    """Every instance of one service."""

    name: str
    instances: list[dict[str, Any]]


class Nodes(_Open):
    """Every node that has a service."""

    nodes: list[dict[str, Any]]


class Holding(_Open):
    """Who holds a service; null: nobody. `as` is the name to release."""

    service: str
    hold: dict[str, Any] | None


class Done(_Open):
    """What became of a hold or of a parameter. `result`: done, already, or pending."""

    service: str
    result: str
    sentence: str


class Params(_Open):
    """The parameters of a service, and who set what differs from the config."""

    service: str
    params: list[dict[str, Any]]


class Groups(_Open):
    """Every group of this node."""

    groups: list[dict[str, Any]]


class Leftovers(_Open):
    """Entries that nobody stands behind."""

    leftovers: list[dict[str, Any]]


class CleanedUp(_Open):
    """What became of each entry. `result`: done, already (not there), refused or failed."""

    entries: list[dict[str, Any]]


class Monitor(_Open):
    """What the host does. Null: unknown, and `unknown` says why by the name of the value."""

    at: str
    gpu: list[dict[str, Any]] | None
    cpu: dict[str, Any] | None
    memory: dict[str, Any] | None
    swap: dict[str, Any] | None
    disks: list[dict[str, Any]] | None
    network: list[dict[str, Any]] | None
    docker: list[dict[str, Any]] | None
    processes: list[dict[str, Any]] | None
    unknown: dict[str, dict[str, Any]]


class Gpus(_Open):
    """The GPUs of this host. `why`: why there are none to show."""

    node: str
    driver: str | None
    cuda: str | None
    gpus: list[dict[str, Any]]
    services: list[dict[str, Any]]
    why: dict[str, Any] | None


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str = ""
    reasons: list[dict[str, Any]] = []
    hint_reasons: list[dict[str, Any]] = []


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route may answer besides its shape. The schema is put into the document once."""
    every = {400, 401, 403, 404, 413, 415, 422, *statuses}
    media = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": "A problem", "content": media} for status in sorted(every)}
