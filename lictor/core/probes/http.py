"""A probe that asks an HTTP URL, as carefully as one asks a stranger.

One session without cookies and without proxies from the environment; a fresh connection each time,
so that an old one cannot hide a dead listener; redirects are reported and never followed (a service
could send the agent anywhere); at most 64 KB are read, and a body that stops half-way is a failure.
Only the status code decides and only its standard words are shown: what the service writes stays
here. aiohttp is loaded with the first question, after the first services were started.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from lictor.core.model.spec import ProbeSpec
from lictor.core.ports import ProbeResult
from lictor.core.probes.tcp import failure_words

if TYPE_CHECKING:
    import aiohttp

_BODY_LIMIT = 64 * 1024
_HEADERS = {"User-Agent": "lictor-health", "Accept": "*/*", "Accept-Encoding": "identity"}


class HttpAsker:
    """Keeps the session. Belongs to one event loop."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the session; a later probe opens another."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def probe(self, spec: ProbeSpec) -> ProbeResult:
        """GET `spec.target`: 2xx passes, everything else fails with its reason."""
        import aiohttp  # noqa: PLC0415 - 60 ms that a cold start must not pay

        try:
            status = await self._ask(spec)
        except TimeoutError:
            return ProbeResult(passed=False, output=f"no answer within {spec.timeout:g} s")
        except aiohttp.InvalidURL:
            return ProbeResult(passed=False, output=f"{spec.target!r} is not a URL")
        except aiohttp.ClientConnectorDNSError:
            return ProbeResult(passed=False, output="the host name of the URL is not known")
        except aiohttp.ClientSSLError as error:
            return ProbeResult(passed=False, output=f"TLS: {error}")
        except aiohttp.ClientOSError as error:
            return ProbeResult(passed=False, output=failure_words(error))
        except aiohttp.ServerDisconnectedError:
            return ProbeResult(passed=False, output="the connection was closed without an answer")
        except aiohttp.ClientPayloadError:
            return ProbeResult(passed=False, output="the answer ended half-way")
        except aiohttp.ClientError:
            return ProbeResult(passed=False, output="the answer is not HTTP")
        return judge(status)

    async def _ask(self, spec: ProbeSpec) -> int:
        import aiohttp  # noqa: PLC0415

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True, limit=0, use_dns_cache=False),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        request = self._session.get(
            spec.target,
            allow_redirects=False,
            headers=_HEADERS,
            timeout=aiohttp.ClientTimeout(total=spec.timeout),
        )
        async with request as response:
            left = _BODY_LIMIT
            while left > 0 and (chunk := await response.content.read(left)):
                left -= len(chunk)
            if left <= 0:
                # The rest may never end: drop the connection instead of reading on.
                response.close()
            return response.status


def judge(status: int) -> ProbeResult:
    """What a status code means for health, in the code's own standard words (RFC 9110 §15)."""
    try:
        words = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        words = f"{status}"
    if 300 <= status < 400:
        return ProbeResult(passed=False, output=f"{words}: a redirect is not followed")
    return ProbeResult(passed=200 <= status < 300, output=words)
