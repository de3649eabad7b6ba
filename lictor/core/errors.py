"""Every error a user can meet, in one tree.

    LictorError                 code, message, hint; each kind has one exit code (cli contract)
    ├── UsageError          2   the command line makes no sense
    ├── ConfigError         2   config.yml is wrong: carries every problem with file:line:column
    ├── NotRunning          3   a service is not running, or not passing
    ├── NoSuchService       4   no service of that name
    ├── AgentUnreachable    5   nothing answers on the agent's socket
    ├── ConsulError         6   Consul did not do what was asked
    │   ├── ConsulUnreachable   no connection, or it was cut
    │   ├── ConsulTimeout       connected, but no answer before the deadline
    │   ├── NoLeader            the servers have no leader at present
    │   ├── Forbidden           the token is unknown (`unknown_token`) or lacks a rule
    │   ├── Conflict            compare-and-set lost, or a transaction was refused
    │   ├── NodeTaken           another agent has the lease of this node name
    │   ├── NotFound            the thing asked for is not there
    │   ├── TooLarge            over Consul's size limits, or an answer over ours
    │   ├── RateLimited         429: try again later
    │   ├── BadRequest          Consul refused the request as malformed
    │   └── Garbage             the answer was not what Consul says it sends
    ├── NotPermitted        7   the caller has no right to do this
    ├── Refused             8   it would hurt others; `-y` insists
    ├── TimedOut          124   waited as long as asked, and it did not happen
    └── OperationFailed     1   tried, and it failed
        ├── StartFailed         a service could not be started
        ├── InstallFailed       what a service needs could not be installed
        └── AgentExists         another agent holds this data_dir, node name or port

Third-party exceptions never cross a gate: each adapter maps what somebody handles to this tree and
chains the original as its cause.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


class Said(Protocol):
    """A sentence as a code with parameters: a `core.model.reason.Reason`, seen from below it."""

    @property
    def code(self) -> str:
        """Names the sentence in the locale files."""
        ...

    @property
    def params(self) -> Mapping[str, object]:
        """What fills it in."""
        ...


class LictorError(Exception):
    """Root of the tree.

    `message` is one sentence that names the subject; `hint` says what to do next; `code` is stable
    and machine-readable; `exit_code` is what the CLI exits with. `reasons` and `hint_reasons` are
    the two texts as codes, for readers of other languages; empty where they are English only.
    """

    code = "error"
    exit_code = 1
    reasons: Sequence[Said] = ()
    hint_reasons: Sequence[Said] = ()

    def __init__(self, message: str, *, hint: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip() if self.hint else self.message


class UsageError(LictorError):
    """The command line makes no sense."""

    code = "usage"
    exit_code = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a config file.

    `line` and `column` count from 1; 0 means that the place is the file as a whole.
    """

    file: str
    line: int
    column: int
    where: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        subject = f" {self.where}:" if self.where else ""
        tail = f" ({self.hint})" if self.hint else ""
        return f"{place}:{subject} {self.message}{tail}"


class ConfigError(LictorError):
    """config.yml is wrong. Every problem is listed, never only the first."""

    code = "config.invalid"
    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class NotRunning(LictorError):
    """A service is not running, or its health is not passing."""

    code = "service.not_running"
    exit_code = 3


class NoSuchService(LictorError):
    """No service, instance or group of that name is defined on this host."""

    code = "service.unknown"
    exit_code = 4


class AgentUnreachable(LictorError):
    """No agent answers on the socket."""

    code = "agent.unreachable"
    exit_code = 5


class ConsulError(LictorError):
    """Consul did not do what was asked."""

    code = "consul.error"
    exit_code = 6


class ConsulUnreachable(ConsulError):
    """No connection to Consul could be made, or it was cut before the answer."""

    code = "consul.unreachable"


class ConsulTimeout(ConsulError):
    """Consul took the connection and did not answer before the deadline."""

    code = "consul.timeout"


class NoLeader(ConsulError):
    """The Consul servers have no leader at present (HTTP 500, "No cluster leader")."""

    code = "consul.no_leader"


class Forbidden(ConsulError):
    """The token is unknown (`unknown_token` is true) or lacks a rule (false)."""

    code = "consul.forbidden"

    def __init__(self, message: str, *, hint: str = "", unknown_token: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.unknown_token = unknown_token


class Conflict(ConsulError):
    """A compare-and-set lost against another writer, or a transaction was refused."""

    code = "consul.conflict"
    exit_code = 1


class NodeTaken(ConsulError):
    """Another agent has the lease of this node name: what Consul holds for it is not ours."""

    code = "node.taken"
    exit_code = 1


class NotFound(ConsulError):
    """Consul has no such thing (HTTP 404 where 404 is not an answer)."""

    code = "consul.not_found"


class TooLarge(ConsulError):
    """Over one of Consul's size limits (413), or an answer larger than we read."""

    code = "consul.too_large"


class RateLimited(ConsulError):
    """HTTP 429: Consul asks to try again later."""

    code = "consul.rate_limited"


class BadRequest(ConsulError):
    """Consul refused the request as malformed (HTTP 400); the message is Consul's own."""

    code = "consul.bad_request"


class Garbage(ConsulError):
    """The answer was not what Consul says it sends (not JSON, cut short, a redirect, ...)."""

    code = "consul.garbage"


class NotPermitted(LictorError):
    """The caller has no right to do this."""

    code = "not_permitted"
    exit_code = 7


class Refused(LictorError):
    """It would hurt others, so it needs to be said twice (`-y`)."""

    code = "refused"
    exit_code = 8


class TimedOut(LictorError):
    """Waited for as long as asked, and it did not happen."""

    code = "timed_out"
    exit_code = 124


class OperationFailed(LictorError):
    """Tried, and it failed."""

    code = "failed"
    exit_code = 1


class StartFailed(OperationFailed):
    """A service could not be started; `reason_code` and `params` make its `Reason`."""

    code = "start.failed"

    def __init__(
        self, message: str, *, reason_code: str, params: dict[str, object] | None = None
    ) -> None:
        super().__init__(message)
        self.reason_code = reason_code
        self.params = params or {}


class InstallFailed(OperationFailed):
    """What a service needs could not be installed; `reason_code` and `params` make its `Reason`."""

    code = "install.failed"

    def __init__(self, message: str, *, reason_code: str, params: dict[str, object]) -> None:
        super().__init__(message)
        self.reason_code = reason_code
        self.params = params


class AgentExists(OperationFailed):
    """Another agent holds this data_dir, node name or port."""

    code = "agent.exists"
