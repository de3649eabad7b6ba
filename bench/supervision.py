"""Lictor beside supervisord, circus, pm2, runit and a floor: how quick, how light, how lasting.

One run measures everything with the same service, the contestants taking turns or running side by
side, and gives medians with their spread. Each kind of measurement has a module of its own; who
takes part is in `contest.py` and `peers/`.
"""

from __future__ import annotations

import argparse

import child
import cold
import common
import consul_server
import crash
import idle
import questions
import survival
from contest import Contest


def report(*, full: bool = False, only: tuple[str, ...] = (), parts: tuple[str, ...] = ()) -> str:
    """The sections of the benchmark page."""
    counts, runs = ((20, 200, 500, 1000), (5, 3, 3, 3)) if full else ((20, 200), (5, 3))
    sections = {
        "cold": lambda c: cold.report(c, counts, runs),
        "crash": lambda c: crash.report(c, 20),
        "idle": lambda c: idle.report(c, 500 if full else 200),
        "status": lambda c: questions.report(c, 100),
        "survival": lambda c: survival.report(c, 200),
    }
    said = []
    with common.scratch() as top, consul_server.started(top) as consul:
        contest = Contest(top, child.build(top), consul and consul.address, only)
        for line in contest.absent:
            contest.say(line)
        said += contest.absent
        for name, section in sections.items():
            if not parts or name in parts:
                contest.say(f"measuring: {name}")
                said.append(section(contest))
    return "\n\n".join(said)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--full", action="store_true", help="500 and 1,000 services as well; takes longer"
    )
    parser.add_argument("--only", nargs="+", default=[], help="contestants, e.g. lictor pm2")
    parser.add_argument("--parts", nargs="+", default=[], help="cold crash idle status survival")
    options = parser.parse_args()
    print(report(full=options.full, only=tuple(options.only), parts=tuple(options.parts)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
