"""Programs of the host that a test drives: missing, they are a skip on a desk and a failure in CI."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """End this test: there is no `what` here. scripts/bootstrap dev brings all of them."""
    reason = f"no {what} here: run scripts/bootstrap dev"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
