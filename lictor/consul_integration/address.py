"""Where Consul is, and how to get in: address, TLS and token, from config and environment.

It honours the same variables as the `consul` program (CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN, ...),
with two repairs to what py-consul makes of them: an address without a port or with `unix://` works,
and an explicit token beats the environment's (py-consul lets the environment win). It never opens a
connection, and a token is never part of any text that it makes.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

from lictor.core.errors import ConsulError
from lictor.core.model.reason import Reason, because
from lictor.core.worded import worded

#: Gives the token for the next call; asked each time, so that a rotated token is used at once.
TokenProvider: TypeAlias = Callable[[], str | None]

_DEFAULT_PORTS = {"http": 8500, "https": 443}


class BadAddress(ConsulError):
    """The address or a TLS setting cannot be used as it is written."""

    code = "consul.bad_address"


@dataclass(frozen=True, slots=True)
class ConsulAddress:
    """One Consul agent's HTTP address. `socket` is set for `unix://` only."""

    scheme: str = "http"
    host: str = "127.0.0.1"
    port: int = 8500
    socket: str | None = None

    @classmethod
    def parse(cls, text: str, *, tls: bool = False) -> ConsulAddress:
        """Read `http(s)://host[:port]`, `unix:///path`, `host:port` or `host`.

        A port that is left out is 8500, or 443 with `https://` (as for any URL: that is what a
        proxy in front of Consul listens on). `tls` is what a text without a scheme means. Raises
        `BadAddress`.
        """
        raw = text.strip()
        if raw.startswith("unix://"):
            return cls._unix(raw)
        if "://" not in raw:
            if raw.count(":") > 1 and not raw.startswith("["):
                raw = f"[{raw}]"  # a bare IPv6 address
            raw = f"{'https' if tls else 'http'}://{raw}"
        try:
            parts = urlsplit(raw)
            port = parts.port
        except ValueError as error:
            unreadable = because("address.unreadable", address=text, why=str(error))
            raise _bad(unreadable) from error
        if parts.scheme not in _DEFAULT_PORTS:
            raise _bad(because("address.scheme", address=text, scheme=parts.scheme))
        if not parts.hostname or port == 0:
            raise _bad(because("address.no_host" if port != 0 else "address.no_port", address=text))
        if parts.username or parts.password or parts.query or parts.fragment:
            raise _bad(because("address.extra", address=text))
        if parts.path not in {"", "/"}:
            raise _bad(because("address.path", address=text))
        return cls(parts.scheme, parts.hostname, port or _DEFAULT_PORTS[parts.scheme])

    @classmethod
    def _unix(cls, raw: str) -> ConsulAddress:
        path = raw.removeprefix("unix://")
        if not path.startswith("/"):
            raise _bad(because("address.socket", address=raw))
        return cls("http", "localhost", 80, path)

    @property
    def base(self) -> str:
        """What a request's URL begins with."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this host can mean this address."""
        local = {"localhost", "::1"}
        return self.socket is not None or self.host in local or self.host.startswith("127.")

    def __str__(self) -> str:
        return f"unix://{self.socket}" if self.socket else self.base


def _bad(why: Reason) -> BadAddress:
    return worded(BadAddress, why, hint=because("next.address_form"))


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """How https is spoken. Empty strings: the system's own authorities, no client certificate."""

    ca_file: str = ""
    ca_path: str = ""
    client_cert: str = ""
    client_key: str = ""
    server_name: str = ""
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """The context to connect with. Raises `BadAddress`, which names the file that cannot be used."""
        try:
            made = ssl.create_default_context(
                cafile=self.ca_file or None, capath=self.ca_path or None
            )
        except OSError as error:  # ssl.SSLError is one of them
            raise _bad_tls(error, self.ca_file or self.ca_path) from error
        if self.client_cert:
            try:
                made.load_cert_chain(self.client_cert, self.client_key or None)
            except OSError as error:
                raise _bad_tls(error, self.client_cert, self.client_key) from error
        if not self.verify:
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        return made


def _bad_tls(error: OSError, *paths: str) -> BadAddress:
    """Python says neither which file is not there nor, in words, what a wrong one lacks."""
    for path in filter(None, paths):
        try:
            with Path(path).open("rb"):
                pass
        except IsADirectoryError:  # as a path of authorities may be
            pass
        except OSError as missing:
            why = missing.strerror or str(missing)
            return worded(BadAddress, because("tls.file", path=path, why=why))
    path, key = (*filter(None, paths), "", "")[:2]
    if isinstance(error, ssl.SSLError):
        why = error.reason or str(error)
        unfit = because("tls.unfit_pair" if key else "tls.unfit", path=path, key=key, why=why)
        return worded(BadAddress, unfit)
    why = error.strerror or str(error)
    return worded(
        BadAddress, because("tls.pair" if key else "tls.file", path=path, key=key, why=why)
    )


@dataclass(slots=True)
class TokenFile:
    """A token in a file, read again whenever the file changes: rotation needs no restart.

    While the file cannot be read or holds no token (somebody is about to write it), the last one
    stays in use, so that a rotation has no gap. `trouble` says what is wrong with it; None: nothing.
    """

    path: Path
    trouble: Reason | None = None
    _stamp: tuple[int, int, int] | None = None
    _token: str | None = field(default=None, repr=False)

    def __call__(self) -> str | None:
        """The token; None while the file never had one that could be read."""
        try:
            about = self.path.stat()
            stamp = (about.st_ino, about.st_mtime_ns, about.st_size)
            if stamp != self._stamp:
                self._take(self.path.read_text(encoding="utf-8").strip())
                self._stamp = stamp
        except OSError as error:
            why = error.strerror or str(error)
            self.trouble = because("token.file", path=str(self.path), why=why)
            self._stamp = None
        except UnicodeDecodeError:
            self.trouble = because("token.file_not_text", path=str(self.path))
        return self._token

    def _take(self, text: str) -> None:
        if not text:
            self.trouble = because("token.file_empty", path=str(self.path))
        elif len(text.split()) > 1 or not (text.isascii() and text.isprintable()):
            # (no HTTP header could carry it)
            self.trouble = because("token.file_too_much", path=str(self.path))
        else:
            self.trouble, self._token = None, text


@dataclass(frozen=True, slots=True)
class ConsulSettings:
    """Everything that a `ConsulClient` is built from.

    `chosen` is false when neither config nor environment named an address, so that the default is a
    guess (an embedded Consul may take its place).
    """

    address: ConsulAddress = field(default_factory=ConsulAddress)
    tls: TlsOptions = field(default_factory=TlsOptions)
    token: TokenProvider = field(default=lambda: None, repr=False)
    chosen: bool = False

    @classmethod
    def resolve(
        cls,
        environ: Mapping[str, str],
        *,
        address: str | None = None,
        token: str | None = None,
    ) -> ConsulSettings:
        """Settings from what was said explicitly, then from the environment. Raises `BadAddress`.

        Variables: CONSUL_HTTP_ADDR, _TOKEN, _TOKEN_FILE, _SSL, _SSL_VERIFY; CONSUL_CACERT, _CAPATH,
        _CLIENT_CERT, _CLIENT_KEY, _TLS_SERVER_NAME (developer.hashicorp.com/consul/commands).
        """
        named = address or environ.get("CONSUL_HTTP_ADDR") or ""
        tls = TlsOptions(
            ca_file=environ.get("CONSUL_CACERT", ""),
            ca_path=environ.get("CONSUL_CAPATH", ""),
            client_cert=environ.get("CONSUL_CLIENT_CERT", ""),
            client_key=environ.get("CONSUL_CLIENT_KEY", ""),
            server_name=environ.get("CONSUL_TLS_SERVER_NAME", ""),
            verify=_flag(environ.get("CONSUL_HTTP_SSL_VERIFY", ""), default=True),
        )
        secure = _flag(environ.get("CONSUL_HTTP_SSL", ""), default=False)
        where = ConsulAddress.parse(named or "127.0.0.1", tls=secure)
        if secure and not where.socket and "://" not in named and ":" not in named:
            where = ConsulAddress("https", where.host, 8501)  # Consul's own port for HTTPS
        return cls(where, tls, _token_of(environ, token), chosen=bool(named))


def _token_of(environ: Mapping[str, str], explicit: str | None) -> TokenProvider:
    secret = explicit or environ.get("CONSUL_HTTP_TOKEN") or None
    path = environ.get("CONSUL_HTTP_TOKEN_FILE")
    if secret is None and path:
        return TokenFile(Path(path))
    return lambda: secret


def _flag(text: str, *, default: bool) -> bool:
    # Go's strconv.ParseBool, which the `consul` program uses for these.
    if text in {"1", "t", "T", "true", "TRUE", "True"}:
        return True
    if text in {"0", "f", "F", "false", "FALSE", "False"}:
        return False
    return default
