"""A report of every fault of the checklist: setup, fault, what was expected, what was seen.

Loaded by `make faults` alone (`-p tests.support.fault_report`). A case is a test with the marker
`checklist`; its figures are what the test noted while it ran. Written to build/faults.md whatever
came of the cases, and shown.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).resolve().parents[2] / "build" / "faults.md"
_HEAD = ("Line", "Setup", "Fault", "Expected", "Seen", "Figures", "Took")


class FaultReport:
    """Collects the outcome of each case; the first bad phase of a test is its outcome."""

    def __init__(self) -> None:
        self.cases: dict[str, list[tuple[int, str, str, str]]] = {}
        self.variants: dict[str, str] = {}
        self.seen: dict[str, str] = {}
        self.figures: dict[str, list[tuple[str, object]]] = {}
        self.took: dict[str, float] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            marks = [mark.args for mark in item.iter_markers("checklist")]
            if marks:
                self.cases[item.nodeid] = marks
                self.variants[item.nodeid] = getattr(getattr(item, "callspec", None), "id", "")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.nodeid not in self.cases:
            return
        self.took[report.nodeid] = self.took.get(report.nodeid, 0.0) + report.duration
        if report.when == "call" or not report.passed:
            words = {"passed": "as expected", "failed": "**not as expected**", "skipped": "not run"}
            self.seen.setdefault(report.nodeid, words[report.outcome])
            if report.failed:
                self.seen[report.nodeid] = words["failed"]
        self.figures[report.nodeid] = list(report.user_properties)

    def rows(self) -> list[tuple[str, ...]]:
        """A row for each line of each case that was chosen, by line of the checklist."""
        found = sorted(
            (line, node, setup, fault, expected)
            for node, marks in self.cases.items()
            for line, setup, fault, expected in marks
        )
        return [
            (
                str(line),
                setup,
                f"{fault}: {variant}" if (variant := self.variants[node]) else fault,
                expected,
                self.seen.get(node, "not run"),
                ", ".join(f"{name}: {_plain(value)}" for name, value in self.figures.get(node, ())),
                f"{self.took.get(node, 0.0):.1f} s",
            )
            for line, node, setup, fault, expected in found
        ]

    @pytest.hookimpl(wrapper=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> Generator[None, object, object]:
        rows = self.rows()
        lines = [" | ".join(_HEAD), " | ".join("---" for _ in _HEAD), *map(" | ".join, rows)]
        good = sum(row[4] == "as expected" for row in rows)
        page = "\n".join(
            [
                "# Faults of Consul, and what Lictor did",
                "",
                f"{good} of {len(rows)} cases as expected, {time.strftime('%Y-%m-%d %H:%M')}.",
                "",
                *(f"| {line} |" for line in lines),
            ]
        )
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page + "\n", encoding="utf-8")
        terminalreporter.write_line(page)
        terminalreporter.write_line(f"\nwritten to {PAGE.relative_to(PAGE.parents[1])}")
        return (yield)


def _plain(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def pytest_configure(config: pytest.Config) -> None:
    """Take part in this run."""
    config.pluginmanager.register(FaultReport(), "fault-report")
