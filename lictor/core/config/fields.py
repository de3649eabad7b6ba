"""The kinds of value that keys of config.yml take, each with its check and its sentence.

Every value arrives as the text that was typed (a mapping and a list as such), so `1.10` stays
`1.10` where a word is wanted and becomes 1.1 where a number is. A check never quotes what may be a
secret. The JSON Schema of each type is written beside it, because `lictor config schema` feeds
editors, and an editor must not underline `${PORT:-5000}`.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
import signal
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from lictor.core.config.problems import quote
from lictor.core.config.units import parse_duration, parse_size
from lictor.core.model.names import BadName, canonical, is_label

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})?)*\.?")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: A parameter of a URL that is a secret by its name.
_SECRET_QUERY = re.compile(
    r"(?:^|[&;])[a-z0-9_.%-]*(?:token|secret|passw(?:or)?d|api_?key|credential)s?=", re.IGNORECASE
)
_VARIABLE = {"type": "string", "pattern": r"\$\{"}


def fail(message: str, hint: str = "") -> PydanticCustomError:
    """The error to raise in a check; `validate` gives it its place."""
    return PydanticCustomError("lictor", "{message}", {"message": message, "hint": hint})


def _or_fail(read: Callable[[object], Any]) -> Callable[[object], Any]:
    def check(value: object) -> Any:
        try:
            return read(value)
        except ValueError as error:
            raise fail(str(error)) from error

    return check


def _words(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        words = shlex.split(value)
    except ValueError:
        words = value.split()
    plain = re.compile(r"[\w./:=@%+-]+")
    shown = ", ".join(w if plain.fullmatch(w) else f'"{w}"' for w in words[:8])
    raise fail(
        "expected a list of words (no shell is used), got one text",
        f"write [{shown}{', …' if len(words) > 8 else ''}]",
    )


def _filled(value: list[str]) -> list[str]:
    if not value or not value[0]:
        raise fail("a command needs at least the program's name")
    return value


def _host(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        if len(value) <= 253 and _HOST.fullmatch(value):
            return value
    hint = "a port goes into `port`" if ":" in value else ""
    raise fail(f"expected an IP address or a host name, got {quote(value)}", hint)


def _tag(value: str) -> str:
    if is_label(value):
        return value
    try:
        hint = f"write {canonical(value)}"
    except BadName:
        hint = "use letters a-z, digits and inner hyphens"
    raise fail(f"the tag {quote(value)} is no DNS label, so DNS could not find it", hint)


def _name(value: str) -> str:
    try:
        return canonical(value)
    except BadName as error:
        raise fail(str(error)) from error


def _signal(value: str) -> str:
    name = value.strip().upper().removeprefix("SIG")
    if name.isdecimal() and int(name) in {int(s) for s in signal.Signals}:
        return signal.Signals(int(name)).name.removeprefix("SIG")
    if f"SIG{name}" in signal.Signals.__members__:
        return name
    raise fail(f"expected a signal such as TERM or INT, got {quote(value)}")


def _umask(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"(0o)?[0-7]{1,4}", value):
        mask = int(value.removeprefix("0o"), 8)
        if mask <= 0o777:
            return mask
    raise fail(f"expected an octal umask such as 022, got {quote(str(value))}")


def _unlimited(value: object) -> object:
    return -1 if value == "unlimited" else value


def _port_range(value: object) -> object:
    match = re.fullmatch(r"\s*([0-9]{1,5})\s*-\s*([0-9]{1,5})\s*", str(value))
    if match and 1 <= int(match[1]) <= int(match[2]) <= 65535:
        return (int(match[1]), int(match[2]))
    raise fail(f"expected a range of ports such as 20000-20999, got {quote(str(value))}")


def url_problem(text: str) -> str:
    """What is wrong with an http(s) URL, or "". The sentence never contains credentials."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return "expected a URL such as http://127.0.0.1:5000/health; its host or port is malformed"
    if "@" in parts.netloc:
        return "a URL with a user name or password in it would be shown to everybody by Consul"
    if _SECRET_QUERY.search(parts.query):
        return "a URL with a credential in its query would be shown to everybody by Consul"
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return f"expected a URL such as http://127.0.0.1:5000/health, got {quote(text)}"
    if port == 0 or re.search(r"\s", text):
        return "a URL has a port from 1 to 65535 and no spaces"
    return ""


def consul_url(text: str, *, secure: bool) -> str | None:
    """Consul's address as a URL, or None if it is none. `host:port` alone is what `consul` takes."""
    text = text.strip()
    if text.startswith("unix://"):
        return text if text[len("unix://") :].startswith("/") else None
    if "://" not in text:
        text = f"{'https' if secure else 'http'}://{text}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        return None
    if parts.path.strip("/") or parts.query or parts.fragment or re.search(r"\s", text):
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port or (443 if parts.scheme == 'https' else 8500)}"


#: What is said of any other text; it never quotes it, because there may be a password in it.
NO_CONSUL_URL = "expected an address such as http://127.0.0.1:8500 or unix:///run/consul.sock"


def _consul_address(value: str) -> str:
    if consul_url(value, secure=False) is None:
        raise fail(NO_CONSUL_URL, "no path, no user name, no password")
    return value


def _probe_url(value: str) -> str:
    if value.startswith("/") and not re.search(r"\s", value):
        problem = url_problem(f"http://host{value}")  # for what stands in its query
        if problem:
            raise fail(problem)
        return value
    problem = url_problem(value)
    if problem:
        raise fail(problem)
    return value


def _socket_url(value: str) -> str:
    if value.startswith("/"):
        return _probe_url(value)
    scheme, mark, rest = value.partition("://")
    if scheme not in {"ws", "wss"} or not mark:
        raise fail(f"expected a URL such as ws://127.0.0.1:2700/, got {quote(value)}")
    problem = url_problem(f"http://{rest}")  # the same rules, the scheme apart
    if problem:
        raise fail(problem.replace("http://127.0.0.1:5000/health", "ws://127.0.0.1:2700/"))
    return value


def _endpoint(value: str) -> str:
    host, _, port = value.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise fail(f"expected host:port, got {quote(value)}")
    if bare:
        _host(bare)
    return value


def _web_origin(value: str) -> str:
    if value == "*":
        raise fail("every page of the web would be let in", "name the origins one by one")
    if url_problem(value):
        raise fail(f"expected an origin such as https://example.org, got {quote(value)}")
    return value.rstrip("/")


def _base_path(value: str) -> str:
    path = value.rstrip("/")
    if path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path):
        raise fail(f"expected a path such as /lictor, got {quote(value)}")
    return path


def _env_name(value: str) -> str:
    if not _ENV_NAME.fullmatch(value):
        raise fail(f"{quote(value)} cannot be the name of an environment variable")
    return value


def _schema(kind: dict[str, Any], *examples: object) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [kind, _VARIABLE], "examples": list(examples)})


_NUMBER = {"type": "number", "minimum": 0}
_DURATION_TEXT = {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"}
_SIZE_TEXT = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?[A-Za-z]*$"}

Duration = Annotated[
    float,
    BeforeValidator(_or_fail(parse_duration)),
    WithJsonSchema({"anyOf": [_DURATION_TEXT, _NUMBER, _VARIABLE], "examples": ["10s", "5m"]}),
]
Size = Annotated[
    int,
    BeforeValidator(_or_fail(parse_size)),
    WithJsonSchema({"anyOf": [_SIZE_TEXT, _NUMBER, _VARIABLE], "examples": ["6GiB", "500MB"]}),
]
Argv = Annotated[list[str], BeforeValidator(_words), AfterValidator(_filled)]
Host = Annotated[str, AfterValidator(_host)]
Name = Annotated[str, AfterValidator(_name)]
Tag = Annotated[str, AfterValidator(_tag)]
EnvName = Annotated[str, AfterValidator(_env_name)]
Signal = Annotated[str, AfterValidator(_signal)]
ProbeUrl = Annotated[str, AfterValidator(_probe_url)]
ConsulAddress = Annotated[str, AfterValidator(_consul_address)]
SocketUrl = Annotated[str, AfterValidator(_socket_url)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
Origin = Annotated[str, AfterValidator(_web_origin)]
BasePath = Annotated[str, AfterValidator(_base_path)]
Text = Annotated[str, Field(min_length=1)]
Port = Annotated[
    int,
    Field(ge=1, le=65535),
    _schema({"type": "integer", "minimum": 1, "maximum": 65535}, 5000),
]
PortOrAny = Annotated[
    int,
    Field(ge=0, le=65535),
    _schema({"type": "integer", "minimum": 0, "maximum": 65535}, 7031),
]
PortRange = Annotated[
    tuple[int, int],
    BeforeValidator(_port_range),
    WithJsonSchema({"type": "string", "examples": ["20000-20999"]}),
]
Umask = Annotated[
    int,
    BeforeValidator(_umask),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer"}], "examples": ["022"]}),
]
Count = Annotated[int, Field(ge=0), _schema({"type": "integer", "minimum": 0}, 3)]
Positive = Annotated[int, Field(ge=1), _schema({"type": "integer", "minimum": 1}, 3)]
Integer = Annotated[int, _schema({"type": "integer"}, 10)]
Number = Annotated[float, Field(gt=0, allow_inf_nan=False), _schema(_NUMBER, 1.5)]
Flag = Annotated[bool, _schema({"type": "boolean"}, True)]
MaxRestarts = Annotated[
    int,
    BeforeValidator(_unlimited),
    Field(ge=-1),
    _schema({"anyOf": [{"type": "integer", "minimum": 0}, {"const": "unlimited"}]}, "unlimited"),
]
