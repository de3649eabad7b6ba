"""The docker driver: a service is one container, which carries our labels.

A container is ours if its owner label is this installation's id, and nothing else makes it so: one
that has our name and not our label is refused with its reason and never touched. Starting finds a
run of the same definition that is there already, removes what is left of earlier ones, and creates
the container anew; nothing is ever started a second time. The engine is asked in threads (`room`),
so that one which is mute, gone or just restarting makes services unknown and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lictor.core.drivers.docker.early import EarlyEvents
from lictor.core.drivers.docker.feed import LogFeed
from lictor.core.drivers.docker.judging import (
    is_run_of,
    mute,
    on_this_host,
    port_is_hidden,
    refusal,
)
from lictor.core.drivers.docker.making import Making
from lictor.core.drivers.docker.needs import Needs
from lictor.core.drivers.docker.request import Request, job_request, service_request
from lictor.core.drivers.docker.room import CALL, EngineRoom
from lictor.core.drivers.docker.running import DockerRunning
from lictor.core.drivers.docker.terms import (
    EngineAway,
    EngineFacts,
    EngineRefused,
    Inspected,
    Seen,
    exit_of,
)
from lictor.core.drivers.tree import boot_id
from lictor.core.errors import StartFailed
from lictor.core.model.names import ServiceKey
from lictor.core.model.reason import Reason, because
from lictor.core.model.spec import DriverKind, ServiceSpec, StopSpec
from lictor.core.model.state import Exit, Identity
from lictor.core.ports_engine import EngineEars

if TYPE_CHECKING:
    from lictor.core.drivers.docker.gate import Engine

log = logging.getLogger(__name__)

_START = 60.0  # seconds: an engine on a busy disk is slow, and so is a GPU's hook
_REMOVE = 60.0
_SHOW = 3.0
_JOB_GRACE = 5.0  # seconds a cancelled job has between TERM and KILL, at most


class DockerDriver:
    """Starts, finds again and ends containers. One per agent; use it within one event loop.

    `agent_id` is the owner in every label. `log_dir` gets one `<key>.log` a service. Nothing is
    asked of the engine before `begin`; what is asked earlier waits for it.
    """

    def __init__(
        self, log_dir: Path, agent_id: str, *, node: str = "", address: str | None = None
    ) -> None:
        self._log_dir = log_dir
        self._owner = agent_id
        self._node = node
        self._boot = boot_id()
        self._ears: EngineEars | None = None
        self.room = EngineRoom(agent_id, self, address)
        self._needs = Needs(self.room, agent_id)
        self._making = Making(self.room, agent_id)
        self._runs: dict[str, DockerRunning] = {}
        self._listing: dict[str, Seen] | None = None
        self._strays: dict[str, Inspected] = {}
        self._oom: set[str] = set()
        # (as events told them: whoever removes a container hides it)
        self._codes: dict[str, int] = {}
        self._early = EarlyEvents()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = False
        self._wanted = False

    @property
    def kind(self) -> DriverKind:
        """The word in config.yml."""
        return "docker"

    def listen(self, ears: EngineEars) -> None:
        """Tell this one of the engine's silence, of progress and of runs that nobody holds."""
        self._ears = ears

    def begin(self, *, wanted: bool = True) -> None:
        """From now on speak with the engine: at once if `wanted`, else when a service asks for it."""
        self._open = True
        if wanted or self._wanted:
            self._want()

    def _want(self) -> None:
        self._wanted = True
        if self._open:
            self.room.begin()

    def notes(self, spec: ServiceSpec) -> tuple[Reason, ...]:
        """What a person should know: a mute engine, a port that nobody outside can reach."""
        found = [self.room.trouble] if self.room.trouble is not None else []
        if port_is_hidden(spec):
            found.append(because("docker.port_hidden", port=spec.port))
        return tuple(found)

    def log_path(self, spec: ServiceSpec) -> Path:
        """Where its output is copied to; older files have `.1`, `.2`, ... behind the name."""
        return self._log_dir / f"{spec.key}.log"

    async def facts(self) -> EngineFacts:
        """What the engine says of itself. Raises `EngineAway` and `EngineRefused`."""
        self._want()
        return await self.room.call(lambda e: e.facts(CALL))

    async def containers(self) -> Sequence[Mapping[str, str]] | Reason:
        """Every container of the engine, for people; why they are not known, if so."""
        if not self._wanted:
            return because("monitor.docker_unread")
        try:
            found = await self.room.call(lambda e: e.everything(_SHOW), _SHOW)
        except EngineAway as away:
            return away.reason
        except EngineRefused as refused:
            return because("docker.refused", error=refused.said)
        return found

    # --- starting -----------------------------------------------------------------------

    async def start(self, spec: ServiceSpec) -> DockerRunning:
        """Create the service's container and run it, or take the one that runs already.

        Raises `StartFailed` with a `docker.*` reason; of those, the ones about an engine that does
        not answer mean that nothing is known.
        """
        self._want()
        try:
            request = await self._ready(
                service_request(spec, owner=self._owner, node=self._node), spec
            )
            found = await self._clear(spec, request)
            if found is None:
                return await self._make(spec, request)
            await self._making.drop(str(spec.key))
            return self._hold(found, spec)
        except EngineAway as away:
            raise mute(away) from away
        except EngineRefused as refused:
            raise refusal(refused) from refused

    async def prepare(self, spec: ServiceSpec) -> None:
        """See to image, network and GPUs for a start of this and make its container, beside the run.

        Raises `StartFailed` as `start` would.
        """
        self._want()
        try:
            request = service_request(spec, owner=self._owner, node=self._node)
            await self._making.supersede(request)
            # (how a build goes on is no word about the run that serves meanwhile)
            await self._making.ahead(await self._needs.meet(request, spec, lambda _: None))
        except EngineAway as away:
            raise mute(away) from away
        except EngineRefused as refused:
            raise refusal(refused) from refused

    async def forgo(self, key: ServiceKey) -> None:
        """Remove what was prepared for a start that will not be."""
        await self._making.drop(str(key))

    async def run_job(self, spec: ServiceSpec, argv: Sequence[str]) -> Exit:
        """Run one `before` job to its end, as a container of the service's image.

        Cancelling ends it: TERM, KILL after the service's own timeout (five seconds at most).
        """
        self._want()
        try:
            request = job_request(spec, argv, owner=self._owner, node=self._node)
            request = await self._ready(request, spec)
            await self._clear(spec, request, job=True)
            job = await self._make(spec, request)
        except EngineAway as away:
            raise mute(away) from away
        except EngineRefused as refused:
            raise refusal(refused) from refused
        try:
            return await job.wait()
        finally:
            grace = min(spec.stop.timeout, _JOB_GRACE)
            await job.stop(StopSpec(signal=spec.stop.signal, timeout=grace))

    async def _ready(self, request: Request, spec: ServiceSpec) -> Request:
        return await self._needs.meet(request, spec, lambda said: self._told(spec.key, said))

    async def _clear(
        self, spec: ServiceSpec, request: Request, *, job: bool = False
    ) -> Inspected | None:
        """Remove what is left of this service; a run of just this definition is given back."""
        listing = await self.room.call(lambda e: e.listing(self._owner, CALL))
        await self._making.refuse_stranger(request)
        kept: Inspected | None = None
        for one in listing:
            if one.service != str(spec.key) or (job and not one.job):
                continue
            if self._making.awaits(one, request):
                continue
            found = None
            if kept is None and not (job or one.job) and is_run_of(one, request):
                found = await self.room.call(partial(_inspect, one.id))
            if found is not None and found.alive:
                kept = found
                continue
            await self.room.call(partial(_remove, one.id), _REMOVE)
        return kept

    async def _make(self, spec: ServiceSpec, request: Request) -> DockerRunning:
        """Create and run; given up in between, whatever came of it is removed again."""
        making = asyncio.ensure_future(self._create(spec, request))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            # A call in a thread cannot be called back: let it end, then undo it.
            with contextlib.suppress(EngineAway, EngineRefused, StartFailed):
                running = await making
                await running.stop(StopSpec(signal="KILL", timeout=0.0))
            raise

    async def _create(self, spec: ServiceSpec, request: Request) -> DockerRunning:
        container = await self._making.make(request)
        try:
            await self.room.call(lambda e: e.start(container, _START), _START)
        except EngineRefused as refused:
            # It stays behind as `created`, and would hold the name.
            await self._making.undo(container)
            raise StartFailed(
                refused.said,
                reason_code="docker.start_refused",
                params={"error": refused.said},
            ) from refused
        found = await self.room.call(lambda e: e.inspect(container, CALL))
        return self._hold(found or Inspected(container, request.name, request.image, ""), spec)

    # --- taking over --------------------------------------------------------------------

    def recover(
        self,
        spec: ServiceSpec,
        identity: Identity | None,
        *,
        after: float = 0.0,  # noqa: ARG002 - a container that runs is never one of a run that ended
    ) -> DockerRunning | None:
        """Take over the container of `identity`, else any that runs with this service's label.

        Before the engine has answered, an identity is believed: what is not so becomes an exit when
        it does. Without an identity there is nothing to believe then.
        """
        self._want()
        if identity is not None and identity.container_id is not None:
            held = self._runs.get(identity.container_id)
            if held is not None and not held.over:
                return held if self._is_of(identity.container_id, spec) else None
            if self._listing is None:
                return self._take_over(identity, spec, "")
            seen = self._listing.get(identity.container_id)
            if seen is not None and seen.alive and not seen.job and seen.service == str(spec.key):
                return self._take_over(identity, spec, seen.fingerprint)
        stray = self._strays.pop(str(spec.key), None)
        return self._hold(stray, spec) if stray is not None else None

    def sweep(self, spec: ServiceSpec) -> asyncio.Task[None] | None:
        """Begin to remove what an earlier agent left of this service; None: nothing is known."""
        left = [
            one.id
            for one in (self._listing or {}).values()
            if one.service == str(spec.key)
            and (one.job or not one.alive)
            and one.id not in self._runs
        ]
        return asyncio.get_running_loop().create_task(self._remove(left)) if left else None

    def close(self) -> None:
        """Let go of everything and touch no container: services outlive their agent."""
        for running in self._runs.values():
            running.forget()
        self._runs.clear()
        for task in self._tasks:
            task.cancel()
        self.room.close()

    # --- what the engine tells ----------------------------------------------------------

    def doubt(self, trouble: Reason | None) -> None:
        """The engine is mute, or answers again."""
        if self._ears is not None:
            self._ears.doubt(trouble)

    def take(self, listing: tuple[Seen, ...]) -> None:
        """Compare what is there with what we hold."""
        if self._listing is None:
            # An earlier agent's jobs, and what ended without anybody to hold it: nothing of it is new.
            left = [one for one in listing if one.job or not one.alive]
            self._begin(self._remove([one.id for one in left if one.id not in self._runs]))
        self._listing = {one.id: one for one in listing}
        for container, running in self._runs.items():
            seen = self._listing.get(container)
            if not running.over and (seen is None or not seen.alive):
                self._begin(self._look_at(container))
        for one in listing:
            if one.alive and not one.job and one.id not in self._runs:
                self._begin(self._stray(one))

    def stirred(self, container: str, action: str, code: int | None) -> None:
        """Something happened to a container: look at it, now or as soon as we hold it."""
        if container not in self._runs:
            self._early.keep(container, action, code)
            return
        if action == "oom":
            self._oom.add(container)
            return
        if code is not None:
            self._codes[container] = code
        self._begin(self._look_at(container))

    async def _look_at(self, container: str) -> None:
        try:
            found = await self.room.call(lambda e: e.inspect(container, CALL))
        except (EngineAway, EngineRefused):
            return  # the look that follows the silence finds it
        running = self._runs.get(container)
        if running is None or self.room.trouble is not None or (found is not None and found.alive):
            return  # (an answer from just before the silence: the listing after it tells)
        oom = container in self._oom
        if found is None:
            running.has_ended(exit_of(self._codes.get(container), oom=oom))
        else:
            running.has_ended(exit_of(found.code, oom=oom or found.oom))

    async def _stray(self, one: Seen) -> None:
        """A run that nobody holds: its service takes it over; without a service it is ended."""
        try:
            found = await self.room.call(partial(_inspect, one.id))
        except (EngineAway, EngineRefused):
            return
        if found is None or not found.alive or one.id in self._runs or self._ears is None:
            return
        self._strays[one.service] = found
        try:
            known = self._ears.found(ServiceKey.parse(one.service))
        except ValueError:
            known = False
        finally:
            self._strays.pop(one.service, None)
        if not known:
            log.warning("the container %s belongs to no service any more: removed", one.name)
            await self._remove([one.id])

    # --- within -------------------------------------------------------------------------

    def _hold(self, found: Inspected, spec: ServiceSpec) -> DockerRunning:
        pid, start = on_this_host(found.id, found.pid)
        identity = Identity(pid, start, self._boot, found.id)
        running = self._take_over(identity, spec, found.fingerprint)
        if not found.alive and found.state:
            running.has_ended(found.exit())
        return running

    def _take_over(self, identity: Identity, spec: ServiceSpec, fingerprint: str) -> DockerRunning:
        container = identity.container_id or ""
        feed = LogFeed(self.room.engine, container, self.log_path(spec))
        running = DockerRunning(self.room, identity, feed, fingerprint=fingerprint, gone=self._gone)
        self._runs[container] = running
        feed.begin()
        for action, code in self._early.of(container):
            self.stirred(container, action, code)
        return running

    def _gone(self, running: DockerRunning) -> None:
        self._runs.pop(running.id, None)
        self._oom.discard(running.id)
        self._codes.pop(running.id, None)
        if self._listing is not None:
            self._listing.pop(running.id, None)

    def _is_of(self, container: str, spec: ServiceSpec) -> bool:
        seen = (self._listing or {}).get(container)
        return seen is None or seen.service == str(spec.key)

    async def _remove(self, containers: Sequence[str]) -> None:
        for container in containers:
            with contextlib.suppress(EngineRefused):
                await self.room.patiently(partial(_remove, container), _REMOVE)
            if self._listing is not None:
                self._listing.pop(container, None)

    def _told(self, key: ServiceKey, progress: Reason) -> None:
        if self._ears is not None:
            self._ears.told(key, progress)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _remove(container: str, engine: Engine) -> None:
    engine.remove(container, _REMOVE)


def _inspect(container: str, engine: Engine) -> Inspected | None:
    return engine.inspect(container, CALL)
