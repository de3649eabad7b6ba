"""Fixtures of the tests of people."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lictor.web.auth.office import Office
from tests.web.auth.support import opened


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with opened(tmp_path / "d", url=lambda: "http://127.0.0.1:7031") as made:
        yield made
