"""A registry of images with one image, on loopback: enough of its protocol for `docker pull`.

Engines take registries on loopback without TLS. `refuse` is the answer (status, error code) to every
question about an image.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"

# The engine says at most every 0.1 s how far it is: a layer that comes at once may not be said at all.
_LARGE = 1 << 20
_PAUSE = 0.3


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class ImageRegistry:
    """Serves `<host>/one:1` while used as a context manager; its layer has `size` bytes of noise."""

    def __init__(self, size: int = 3_000_000) -> None:
        held = io.BytesIO()
        with tarfile.open(fileobj=held, mode="w") as tar:
            entry = tarfile.TarInfo("noise")
            entry.size = size
            tar.addfile(entry, io.BytesIO(os.urandom(size)))
        layer = gzip.compress(held.getvalue(), 1)
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [_digest(held.getvalue())]},
            }
        ).encode()
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": {"mediaType": _CONFIG, "size": len(config), "digest": _digest(config)},
                "layers": [{"mediaType": _LAYER, "size": len(layer), "digest": _digest(layer)}],
            }
        ).encode()
        self.blobs = {_digest(config): config, _digest(layer): layer}
        self.refuse: tuple[int, str] | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    @property
    def image(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}/one:1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, content type and body."""
        if path.rstrip("/") == "/v2":
            return 200, "application/json", b"{}"
        if self.refuse is not None:
            status, code = self.refuse
            body = {"errors": [{"code": code, "message": f"{code} for this image"}]}
            return status, "application/json", json.dumps(body).encode()
        if "/manifests/" in path:
            return 200, _MANIFEST, self.manifest
        blob = self.blobs.get(path.rpartition("/")[2])
        return (404, "text/plain", b"") if blob is None else (200, "application/octet-stream", blob)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, kind, body = registry.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
                if "/manifests/" in self.path and status == 200:
                    self.send_header("Docker-Content-Digest", _digest(body))
                self.end_headers()
                if self.command == "GET":
                    half = len(body) // 2 if len(body) > _LARGE else 0
                    self.wfile.write(body[:half])
                    time.sleep(_PAUSE if half else 0)
                    self.wfile.write(body[half:])

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        return Handler
