"""`/metrics`: what Prometheus scrapes.

Made from the same page as the status, so a scrape asks nobody anything. Every service has every
series all the time: a series that comes and goes cannot be alerted on. The one door to
prometheus-client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from starlette.responses import Response

from lictor import __version__
from lictor.core.model.known import Known
from lictor.core.model.state import Phase
from lictor.core.ports import Usage
from lictor.core.runtime.agent import Agent
from lictor.core.runtime.meters import Histogram
from lictor.web.api import shapes
from lictor.web.auth.gate import Person, needs
from lictor.web.auth.rights import Right
from lictor.web.door import TheDoor

router = APIRouter(tags=["metrics"])

_MIB = 1024 * 1024


@router.get(
    "/metrics",
    responses={
        **shapes.problems(),
        200: {"content": {"text/plain": {}}, "description": "The Prometheus text format"},
    },
)
async def metrics(
    request: Request,
    person: Annotated[Person, Depends(needs(Right.METRICS))],
    door: TheDoor,
) -> Response:
    """The figures of the agent and of every service."""
    del person
    page = await request.app.state.pages.page()
    families = list(_families(door.agent, page["services"], request.app.state.streams.count))
    text = await asyncio.to_thread(_written, families)
    return Response(text, headers={"Cache-Control": "no-store"}, media_type=CONTENT_TYPE_LATEST)


class _Once(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _written(families: Iterable[Metric]) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(families))
    return generate_latest(registry)


def _families(
    agent: Agent, rows: Mapping[str, Mapping[str, Any]], streams: int
) -> Iterator[Metric]:
    yield from _of_services(agent, rows)
    yield from _of_gpus(agent)
    info = GaugeMetricFamily("lictor_info", "This agent", labels=["version", "node"])
    info.add_metric([__version__, agent.node], 1)
    yield info
    good = agent.consul.state.code == "consul.ok"
    yield GaugeMetricFamily("lictor_consul_up", "Whether Consul answers", value=float(good))
    yield CounterMetricFamily("lictor_consul_writes", "Writes to Consul", value=agent.consul.writes)
    yield GaugeMetricFamily("lictor_streams", "Event streams that are open", value=streams)
    passes = "Duration of a pass of the reconciler in seconds"
    yield _histogram("lictor_reconcile_seconds", passes, agent.reconciler.took)
    late = "How late the event loop came to what was due, in seconds"
    yield _histogram("lictor_loop_lag_seconds", late, agent.lag.seen)


def _of_services(agent: Agent, rows: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    label = ["service"]
    up = GaugeMetricFamily("lictor_service_up", "1: ready", labels=label)
    wanted = GaugeMetricFamily("lictor_service_wanted", "1: it is to run", labels=label)
    phase = GaugeMetricFamily("lictor_service_phase", "1: this phase", labels=[*label, "phase"])
    restarts = CounterMetricFamily(
        "lictor_service_restarts", "Runs that replaced another", labels=label
    )
    start = GaugeMetricFamily(
        "lictor_service_start_seconds", "From the last start until ready", labels=label
    )
    cpu = CounterMetricFamily("lictor_service_cpu_seconds", "CPU of all processes", labels=label)
    memory = GaugeMetricFamily("lictor_service_memory_bytes", "Resident memory", labels=label)
    usage = {str(key): one for key, one in agent.usage().items()}
    states = {str(key): runner.state for key, runner in agent.reconciler.runners.items()}
    for name, row in rows.items():
        up.add_metric([name], float(row["phase"] == "ready"))
        wanted.add_metric([name], float(row["desired"] == "running"))
        for each in Phase:
            phase.add_metric([name, each.value], float(row["phase"] == each.value))
        restarts.add_metric([name], row["restart_count"])
        used = usage.get(name, Usage())
        cpu.add_metric([name], used.cpu_seconds or 0.0)
        memory.add_metric([name], (row["memory_mb"] or 0.0) * _MIB)
        state = states.get(name)
        if state is not None and state.ready_since is not None and state.started is not None:
            start.add_metric([name], max(0.0, state.ready_since - state.started))
    yield from (up, wanted, phase, restarts, start, cpu, memory)


def _of_gpus(agent: Agent) -> Iterator[Metric]:
    """As last looked at: a scrape wakes no driver. No card, no series."""
    seen = agent.gpus.seen
    cards = seen.value.cards if isinstance(seen, Known) else ()
    memory = GaugeMetricFamily("lictor_gpu_memory_bytes", "Memory of a GPU", labels=["gpu", "kind"])
    held = GaugeMetricFamily(
        "lictor_service_gpu_memory_bytes", "GPU memory of all processes", labels=["service", "gpu"]
    )
    load = GaugeMetricFamily("lictor_gpu_busy_ratio", "How busy its cores are", labels=["gpu"])
    for card in cards:
        kinds = {
            "total": card.total,
            "used": card.used,
            "free": card.free,
            "reserved": card.reserved,
        }
        for kind, value in kinds.items():
            if value is not None:
                memory.add_metric([str(card.index), kind], value)
        if card.utilization is not None:
            load.add_metric([str(card.index)], card.utilization / 100)
    for each in agent.gpus.cards():
        for one in each.tenants:
            held.add_metric([str(one.key), str(each.gpu.index)], one.holds)
    yield from (memory, load, held)


def _histogram(name: str, text: str, seen: Histogram) -> Metric:
    family = HistogramMetricFamily(name, text)
    buckets: list[tuple[str, float]] = []
    count = 0
    for bound, here in zip([*map(str, seen.bounds), "+Inf"], seen.counts, strict=True):
        count += here
        buckets.append((bound, count))
    family.add_metric([], buckets, seen.total)
    return family
