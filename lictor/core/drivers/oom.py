"""Whom the kernel ends first when memory runs out: a service, and never the agent.

Without the agent nobody starts anything again, so it asks the kernel to be spared
(`oom_score_adj`, proc(5)). A child inherits that wish, so it is taken back right after each spawn:
a service that eats the memory must be the one that goes. Lowering needs CAP_SYS_RESOURCE and is left
out where it is not permitted; raising a child's to what others have always is.
"""

from __future__ import annotations

import contextlib
import os
from functools import cache
from pathlib import Path

#: What the agent asks for: far behind every service, still before what is at -1000.
OURS = -500

_OWN = Path("/proc/self/oom_score_adj")


def spare_agent(score: int = OURS) -> bool:
    """Lower our own score to `score` unless it is there already; False: not permitted."""
    try:
        if int(_OWN.read_text(encoding="ascii")) > score:
            _OWN.write_text(f"{score}", encoding="ascii")
    except (OSError, ValueError):
        return False
    _spared.cache_clear()
    return True


def unspare_child(pid: int) -> None:
    """Give a child that was just made the score of any other program, if it inherited ours.

    Costs three system calls, and none where the agent itself is not spared. A child that has ended
    meanwhile needs nothing.
    """
    if not _spared():
        return
    with contextlib.suppress(OSError):
        # (os: this is on the way of every start)
        handle = os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(handle, b"0")
        finally:
            os.close(handle)


@cache
def _spared() -> bool:
    """Whether children inherit a wish of ours; looked up at the first start, and kept."""
    try:
        return int(_OWN.read_text(encoding="ascii")) < 0
    except (OSError, ValueError):
        return False
