"""Does a service that is being asked get on with its work? Its own counters tell.

A model server can answer its health URL while nothing comes out of it any more, and it can be too busy
to answer while all is well. Both are decided by what it counts itself: requests in flight, and work done.
Pure: values in, values out. Nothing is concluded from counters that could not be read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Work:
    """One look at the counters: requests in flight, and how much was done since the start."""

    in_flight: float
    done: float


@dataclass(frozen=True, slots=True)
class Progress:
    """What the looks so far say.

    `since` (monotonic seconds) is when it last got on, or had nothing to do; `moving`: between the last
    two looks something was done; `in_flight` and `done` are of the last look.
    """

    in_flight: float
    done: float
    since: float
    moving: bool = False


def after(before: Progress | None, seen: Work | None, *, now: float) -> Progress | None:
    """The progress after one more look; `seen` None: it could not be read, which proves nothing."""
    if seen is None:
        return replace(before, since=now, moving=False) if before is not None else None
    if before is None or seen.done < before.done:  # the first look, or its counters began anew
        return Progress(seen.in_flight, seen.done, now)
    moving = seen.done > before.done
    idle = moving or not seen.in_flight or not before.in_flight
    return Progress(seen.in_flight, seen.done, now if idle else before.since, moving)


def stands_still(progress: Progress | None, limit: float, *, now: float) -> float | None:
    """For how many seconds nothing was done for those who wait, once that is `limit`; else None."""
    if progress is None or not progress.in_flight:
        return None
    still = now - progress.since
    return still if still >= limit else None
