"""From a checked service to its `ServiceSpec`: the last defaults, absolute paths, the environment.

Here stand the defaults that depend on other keys: what is registered when a service binds to all
addresses, what is asked when no health check is written, which ports Lictor chooses. What only
shows when all services are seen together is in `crosscheck`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lictor.core.config.childenv import OUR_TOKENS, child_env, read_env_file
from lictor.core.config.context import LoadContext, resolve
from lictor.core.config.expand import PARAM_MARK, Scope, mapping
from lictor.core.config.expand import Path as KeyPath
from lictor.core.config.params import bad_value, fitted
from lictor.core.config.ports import PortBook
from lictor.core.config.problems import Problems, dotted, suggest
from lictor.core.config.schema_install import install_spec
from lictor.core.config.schema_service import (
    NO_HEALTH,
    PROTOCOL_KINDS,
    CheckModel,
    HealthModel,
    ServiceModel,
)
from lictor.core.config.services import Candidate
from lictor.core.config.settings import AgentSettings
from lictor.core.config.tree import Map, Scalar, typed
from lictor.core.config.validate import check
from lictor.core.model.container import ContainerSpec
from lictor.core.model.gpu import GpuSpec
from lictor.core.model.names import BadName, canonical
from lictor.core.model.spec import (
    Dependency,
    HealthSpec,
    Limits,
    LogSpec,
    ParamRef,
    ParamSpec,
    ParamValue,
    ProbeSpec,
    RecycleSpec,
    RestartPolicy,
    ServiceSpec,
    StopSpec,
)

WILDCARDS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - recognised here, not bound
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - same
#: Placeholders of a service.
NAMES = ("host", "port", "data_dir", "name", "instance", "python")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?")


@dataclass(frozen=True, slots=True)
class Builder:
    """What all services of one config share while they are built."""

    folder: Path
    agent: AgentSettings
    context: LoadContext
    problems: Problems
    ports: PortBook

    def build(self, candidate: Candidate) -> ServiceSpec | None:
        """The service's spec, or None if there is nothing to build on.

        What is wrong is written down, and the rest is built: the checks between services see it.
        """
        subject = candidate.subject
        data = mapping(subject.tree, self._scope(candidate), subject.where)
        checked = check(ServiceModel, data, subject, self.problems)
        if checked is None:
            return None
        port = checked.model.port or self.ports.allocated.get(str(candidate.key))
        return _Work(self, candidate, checked.model, port, whole=checked.whole).spec()

    def _scope(self, candidate: Candidate) -> Scope:
        params = candidate.subject.tree.get("params")
        host = first_text(candidate, "host", self.context.env) or "127.0.0.1"
        return Scope(
            env=self.context.env,
            problems=self.problems,
            names=NAMES,
            lookup=partial(self._lookup, candidate, host),
            params=frozenset(params.entries) if isinstance(params, Map) else frozenset(),
            service=True,
        )

    def _lookup(self, candidate: Candidate, host: str, name: str, path: KeyPath) -> str | None:
        if name == "host":
            if path[:1] == ("host",):
                return None
            return _shown_host(host, path)
        if name == "port":
            if path[:1] == ("port",):
                return None
            port = explicit_port(candidate, self.context.env) or self._chosen(candidate)
            return str(port) if port is not None else "0"
        fixed = {
            "data_dir": str(self.agent.data_dir),
            "name": candidate.key.name,
            "instance": candidate.key.instance,
            "python": self.context.python,
        }
        return fixed[name] or None

    def _chosen(self, candidate: Candidate) -> int | None:
        if candidate.subject.tree.get("port") is not None:
            return None  # it is there and wrong, which the schema says better
        port = self.ports.port(candidate.key)
        if port is None:
            low, high = self.ports.span
            message = f"no port is left in agent.port_range {low}-{high}"
            self.problems.add(candidate.subject.place, dotted(candidate.subject.where), message)
        return port


def first_text(candidate: Candidate, key: str, env: Mapping[str, str]) -> str:
    """A key's text before the real expansion, with variables only; problems come later."""
    node = candidate.subject.tree.get(key)
    return Scope(env, Problems()).text(node, (), (key,)) if isinstance(node, Scalar) else ""


def explicit_port(candidate: Candidate, env: Mapping[str, str]) -> int | None:
    """The port that the config names for a service, if it is one."""
    text = first_text(candidate, "port", env)
    return int(text) if re.fullmatch(r"[0-9]{1,5}", text) and 1 <= int(text) <= 65535 else None


def reachable(host: str) -> str:
    """Where a service that binds to `host` can be asked from this host."""
    return _LOOPBACK.get(host, host)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _shown_host(host: str, path: KeyPath) -> str:
    if path[:1] not in {("health",), ("checks",)}:
        return host
    asked = reachable(host)
    return _in_url(asked) if path[-1] in {"http", "tcp", *PROTOCOL_KINDS} else asked


def _part(text: str) -> str | ParamRef:
    return ParamRef(text.removeprefix(PARAM_MARK)) if text.startswith(PARAM_MARK) else text


def _argv(words: list[str] | None) -> tuple[str | ParamRef, ...]:
    return tuple(_part(word) for word in words or ())


@dataclass(frozen=True, slots=True)
class _Work:
    """One service on its way to a spec."""

    builder: Builder
    candidate: Candidate
    model: ServiceModel
    port: int | None
    #: False: keys that were wrong are missing from `model`, so what is missing means nothing.
    whole: bool = True

    def spec(self) -> ServiceSpec:
        model = self.model
        if self.whole:
            self._driver_fits()
        user, group = self._user()
        params = {
            name: ParamSpec(p.default, tuple(p.choices or ()), p.pattern)
            for name, p in model.params.items()
        }
        cwd = resolve(model.cwd, self.builder.folder, self.builder.context.env)
        return ServiceSpec(
            key=self.candidate.key,
            driver=model.driver,
            description=model.description,
            display_name=self.candidate.display_name,
            command=() if model.driver == "observed" else _argv(model.command),
            before=() if model.driver == "observed" else tuple(map(_argv, model.before)),
            cwd=str(cwd),
            env=self._env(),
            env_names=tuple(model.env),
            user=user,
            group=group,
            umask=model.umask,
            host=model.host,
            address=self._address(),
            port=self.port,
            health=self._health(),
            checks={name: self._check(name, c) for name, c in model.checks.items()},
            restart=_restart(model),
            stop=StopSpec(model.stop.signal, model.stop.timeout, model.stop.pause),
            limits=Limits(**model.limits.model_dump()) if model.limits else Limits(),
            depends_on=self._dependencies(),
            optional=model.optional,
            activation=model.activation,
            recycle=RecycleSpec(**model.recycle.model_dump()) if model.recycle else RecycleSpec(),
            log=LogSpec(model.log.max_size, model.log.keep),
            logs=tuple(str(resolve(log, cwd, self.builder.context.env)) for log in model.logs),
            params=params,
            param_values=self._values(params),
            voice_group=model.group,
            rank=model.rank,
            owner=model.owner,
            tags=tuple(dict.fromkeys(model.tags)),
            meta=dict(model.meta),
            modes=_modes(model),
            registered=model.register_,
            docker=(container := _docker(model)),
            container_command=_container_command(model),
            gpu=_gpu(model),
            install=install_spec(
                model.install,
                str(self.builder.agent.data_dir / "venvs" / self.candidate.key.name),
                container.image if container is not None and container.build is None else None,
            ),
            later=_later(model),
        )

    def _complain(self, loc: KeyPath, message: str, hint: str = "") -> None:
        self.candidate.subject.complain(self.builder.problems, loc, message, hint)

    def _driver_fits(self) -> None:
        model = self.model
        if model.driver == "process" and model.docker is not None:
            self._complain(
                (), "`docker` is given, but the driver is process", "write driver: docker"
            )
        elif model.driver in {"process", "auto"} and not model.command:
            self._complain((), "`command` is missing", "or write driver: observed")
        contained = model.driver in {"docker", "auto"}
        if contained and (model.docker is None or model.docker.image is None):
            self._complain(("docker",), "`docker.image` is missing")

    def _user(self) -> tuple[str | None, str | None]:
        if self.model.user is None:
            return None, None
        user, colon, group = self.model.user.partition(":")
        if not _USER.fullmatch(user) or (colon and not _USER.fullmatch(group)):
            self._complain(("user",), "expected a user, or user:group")
        return user, group or None

    def _address(self) -> str:
        model, agent = self.model, self.builder.agent
        chosen = model.address or model.host
        if chosen not in WILDCARDS:
            return chosen
        if model.address is not None:
            self._complain(("address",), f"nobody can connect to {chosen}", "leave it out")
        return agent.advertise or "127.0.0.1"

    def _env(self) -> dict[str, str | ParamRef]:
        model, builder = self.model, self.builder
        from_file: dict[str, str] = {}
        if model.env_file is not None:
            path = resolve(model.env_file, builder.folder, builder.context.env)
            try:
                from_file = read_env_file(path, builder.problems)
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else str(error)
                self._complain(("env_file",), f"cannot read {path}: {why}")
        for index, name in enumerate(model.inherit_env):
            if name in OUR_TOKENS:
                message = f"{name} is Lictor's own key to Consul and is not handed on"
                self._complain(
                    ("inherit_env", index), message, "give the service a token of its own in `env`"
                )
        env = child_env(builder.context.env, from_file, model.env, model.inherit_env)
        return {name: _part(value) for name, value in env.items()}

    def _health(self) -> HealthSpec:
        health = self.model.health
        if health is NO_HEALTH:
            return HealthSpec(probe=None)
        probe = self._probe(("health",), health)
        if probe is None and self.port is not None:
            target = f"{_in_url(self._asked())}:{self.port}"
            probe = ProbeSpec("tcp", target, (), health.interval, health.timeout)
        judged = (health.startup, health.failures, health.on_unhealthy)
        return HealthSpec(probe, *judged, health.stalled)

    def _check(self, name: str, model: CheckModel) -> ProbeSpec:
        found = self._probe(("checks", name), model)
        return found or ProbeSpec("tcp", "", (), model.interval, model.timeout)  # it was wrong

    def _probe(self, loc: KeyPath, model: HealthModel | CheckModel) -> ProbeSpec | None:
        times = (model.interval, model.timeout)
        if model.http is not None:
            target = self._with_base((*loc, "http"), model.http, "/", "http://")
            return ProbeSpec("http", target, (), *times)
        if model.tcp is not None:
            target = model.tcp if ":" in model.tcp.lstrip(":") else f":{model.tcp.lstrip(':')}"
            target = self._with_base((*loc, "tcp"), target, ":", "")
            return ProbeSpec("tcp", target, (), *times)
        if model.command is not None:
            return ProbeSpec("command", "", tuple(model.command), *times)
        kind = next((kind for kind in PROTOCOL_KINDS if getattr(model, kind) is not None), None)
        if kind is None:
            return None
        where, target = (*loc, kind), str(getattr(model, kind))
        if kind == "websocket":
            return ProbeSpec(kind, self._with_base(where, target, "/", "ws://"), (), *times)
        target = self._with_base(where, target, ":", "")
        if kind == "minio":  # its hello is a page, and so Consul can ask for it itself
            return ProbeSpec("http", f"http://{target}/minio/health/live", (), *times)
        return ProbeSpec(kind, target, (), *times)

    def _with_base(self, loc: KeyPath, target: str, bare: str, scheme: str) -> str:
        if not target.startswith(bare):
            return target
        host = _in_url(self._asked())
        if bare == ":":
            return host + target
        if self.port is None:
            self._complain(loc, "a path alone needs the service's `port`")
        return f"{scheme}{host}:{self.port}{target}"

    def _asked(self) -> str:
        if self.model.driver == "observed":  # it runs wherever it is registered
            return reachable(self.model.address or self.model.host)
        return reachable(self.model.host)

    def _dependencies(self) -> tuple[Dependency, ...]:
        result: dict[str, Dependency] = {}
        for raw, how in self.model.depends_on.items():
            try:
                name = canonical(raw)
            except BadName as error:
                self._complain(("depends_on", raw), str(error))
                continue
            result[name] = Dependency(name, how.required)
        return tuple(result.values())

    def _values(self, params: Mapping[str, ParamSpec]) -> dict[str, ParamValue]:
        values: dict[str, ParamValue] = {}
        given = self.candidate.values
        where = (*self.candidate.subject.where, "params")
        problems = self.builder.problems
        scope = Scope(self.builder.context.env, problems)
        for name, entry in given.entries.items() if given is not None else ():
            at = dotted((*where, name))
            if name not in params and not self.whole:
                continue
            if name not in params:
                hint = suggest(name, params)
                problems.add(entry.key_place, at, f"unknown parameter `{name}`", hint)
            elif not isinstance(entry.node, Scalar):
                message = "expected the parameter's value, not a list or mapping"
                problems.add(entry.node.place, at, message)
            else:
                text = scope.text(entry.node, (*where, name), ())
                value = typed(text) if entry.node.plain else text
                problem = bad_value(params[name], value)
                if problem or value is None:
                    problems.add(entry.node.place, at, problem)
                else:
                    values[name] = fitted(params[name], value)
        return values


def _restart(model: ServiceModel) -> RestartPolicy:
    restart = model.restart
    return RestartPolicy(
        policy=restart.policy,
        backoff=restart.backoff,
        max_backoff=max(restart.max_backoff, restart.backoff),
        max_restarts=None if restart.max_restarts < 0 else restart.max_restarts,
        reset_after=restart.reset_after,
    )


def _modes(model: ServiceModel) -> tuple[str, ...]:
    given: set[str] = set(model.modes)
    if given & {"full", "local"}:  # two words for one mode
        given |= {"full", "local"}
    return tuple(mode for mode in ("full", "local", "cloud") if mode in given)


def _docker(model: ServiceModel) -> ContainerSpec | None:
    if model.docker is None or model.docker.image is None:
        return None
    given = model.docker.model_dump(exclude={"command"})
    return ContainerSpec(
        **{**given, "volumes": tuple(given["volumes"]), "ports": tuple(given["ports"])}
    )


def _container_command(model: ServiceModel) -> tuple[str | ParamRef, ...] | None:
    if model.docker is None or model.docker.command is None:
        return None
    return _argv(model.docker.command)


def _gpu(model: ServiceModel) -> GpuSpec | None:
    if model.gpu is None:
        return None
    given = model.gpu.model_dump()
    return GpuSpec(**{**given, "devices": tuple(given["devices"] or ())})


def _later(model: ServiceModel) -> dict[str, object]:
    """What a later capability will use, as plain data."""
    result: dict[str, object] = {}
    if model.idle_timeout is not None:
        result["idle_timeout"] = model.idle_timeout
    if model.metrics is not None:
        result["metrics"] = model.metrics
    return result
