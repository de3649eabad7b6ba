"""JSON bytes as an answer, made once and sent as they are.

FastAPI would check and copy each value by its model on the way out; our answers are made of plain
values already, and the models serve the OpenAPI document and the tests. `no-store`: what a browser
keeps of these pages would outlive the session.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

_HEADERS = {"Cache-Control": "no-store"}


def encode(value: Any) -> bytes:
    """`value` as JSON; infinities and NaN are not JSON and are refused."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def answer(value: Any, status: int = 200) -> Response:
    """An answer of any value."""
    return ready(encode(value), status)


def ready(content: bytes, status: int = 200) -> Response:
    """An answer whose bytes are there already."""
    return Response(content, status, _HEADERS, "application/json")
