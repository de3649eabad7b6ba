"""Run every benchmark and write the page that shows them. The page is only written as a whole."""

from __future__ import annotations

import sys
from pathlib import Path

import api
import cli_cold
import common
import logs
import registry
import startup
import supervision

_INTRO = """\
# Benchmarks

Written by `make bench`; run it to get the figures of your own machine. Compare figures within one
table only: another machine, or another hour of a shared one, gives others.

Measured on {machine}.
"""


def main() -> int:
    target = Path(sys.argv[1])
    sections = [
        _INTRO.format(machine=common.machine()),
        startup.report(counts=(1, 50), runs=7),
        cli_cold.report(count=30, runs=20),
        supervision.report(full=True),
        logs.report(runs=3),
        registry.report(many=500, entries=1000),
        api.report(),
    ]
    page = "\n".join(sections)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page, encoding="utf-8")
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
