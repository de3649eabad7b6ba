"""Serves the dashboard: one page, and the files it needs, from memory.

They are read once, in a thread, when somebody first asks for the page; nothing on disk is looked for by a name
that a request brings. The files lie below a folder named after their content, so a browser may keep
them for ever and an upgraded agent is seen at once. Page and files are open to everybody, because the
login page is made of them; they hold no data of anybody. Inline scripts and styles do not exist here:
the Content-Security-Policy of the borders forbids them.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from lictor.core.locales import LANGUAGES, catalogue
from lictor.core.model.reason import because
from lictor.core.worded import worded
from lictor.web.auth.errors import NoSuchPage

_FOREVER = "public, max-age=31536000, immutable"
_SMALL = 1024  # bytes under which packing saves nothing
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".md": "text/plain"}
#: Loaded when a page asks for them, and not with the first page.
_LATER = ("uplot", "pages/")


@dataclass(frozen=True, slots=True)
class Asset:
    """One file: its bytes, the same packed, and its media type."""

    plain: bytes
    packed: bytes | None
    kind: str


class Site:
    """All files of the dashboard. `version` changes with any byte of any of them."""

    def __init__(self) -> None:
        found = dict(_walk(files("lictor.web").joinpath("static"), ""))
        page = found.pop("index.html").decode()
        for language in LANGUAGES:
            texts = {name: dict(catalogue(language, name)) for name in ("web", "reasons")}
            found[f"locales/{language}.json"] = json.dumps(texts, ensure_ascii=False).encode()
        digest = hashlib.sha256(page.encode())
        for name in sorted(found):
            digest.update(name.encode() + b"\0" + found[name])
        self.version = digest.hexdigest()[:12]
        self.assets: Mapping[str, Asset] = {
            name: _asset(name, content) for name, content in found.items()
        }
        self._page = page.replace("@preload@", "\n".join(self._preloads()))
        self.page = self._page.replace("@assets@", f"static/{self.version}").encode()

    def _preloads(self) -> list[str]:
        """One line for each module, so that they come at once and not one after the other."""
        return [
            f'<link rel="modulepreload" href="@assets@/{name}">'
            for name in sorted(self.assets)
            if name.endswith((".js", ".mjs")) and not any(word in name for word in _LATER)
        ]


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for entry in folder.iterdir():
        name = f"{prefix}{entry.name}"
        if entry.is_dir():
            found += _walk(entry, f"{name}/")
        else:
            found.append((name, entry.read_bytes()))
    return found


def _asset(name: str, content: bytes) -> Asset:
    suffix = f".{name.rpartition('.')[2]}"
    kind = _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "text/plain"
    if kind.startswith("text/"):
        kind += "; charset=utf-8"
    packed = gzip.compress(content, 6, mtime=0) if len(content) > _SMALL else None
    return Asset(content, packed, kind)


def make_router() -> APIRouter:
    """The open routes of the dashboard."""
    router = APIRouter(include_in_schema=False)
    reading: list[asyncio.Future[Site]] = []

    async def read() -> Site:
        if not reading:
            reading.append(asyncio.ensure_future(asyncio.to_thread(Site)))
        return await asyncio.shield(reading[0])

    @router.get("/")
    async def page() -> Response:
        """The page; it is asked for anew each time, because it names the version."""
        site = await read()
        headers = {"Cache-Control": "no-cache"}
        return Response(site.page, media_type="text/html; charset=utf-8", headers=headers)

    @router.get("/static/{version}/{name:path}")
    async def asset(version: str, name: str, request: Request) -> Response:
        """One file of the dashboard."""
        site = await read()
        found = site.assets.get(name)
        if found is None:
            raise worded(NoSuchPage, because("page.no_file"))
        # A page of another version, still open while the agent was upgraded, must not be kept.
        headers = {"Cache-Control": _FOREVER if version == site.version else "no-cache"}
        body = found.plain
        if found.packed is not None:
            headers["Vary"] = "Accept-Encoding"
            if "gzip" in request.headers.get("accept-encoding", ""):
                headers["Content-Encoding"] = "gzip"
                body = found.packed
        return Response(body, media_type=found.kind, headers=headers)

    @router.get("/dashboard")
    async def dashboard(request: Request) -> Response:
        """The address that people guess."""
        return RedirectResponse(f"{request.scope.get('root_path', '')}/")

    return router
