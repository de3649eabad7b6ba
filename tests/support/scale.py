"""How large a test of scale is: small in the suite, whole under `make soak` (LICTOR_SOAK).

The same test runs both ways, so the large one cannot rot; it never asserts an absolute time.
"""

from __future__ import annotations

import os

SOAK = bool(os.environ.get("LICTOR_SOAK"))


def many(usual: int, soaking: int) -> int:
    """The number for this run."""
    return soaking if SOAK else usual
