"""The page of the checklist names every test that it promises, and promises nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.tree import ROOT

LINES = 40

PAGE = ROOT / "docs" / "reference" / "consul-faults.md"


def marked() -> Iterator[tuple[int, str, str]]:
    """Line, name and promise of every test with a checklist marker."""
    for path in sorted(Path(ROOT, "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for mark in node.decorator_list:
                    if isinstance(mark, ast.Call) and ast.unparse(mark.func).endswith(".checklist"):
                        line, _setup, _fault, promise = map(ast.literal_eval, mark.args)
                        yield line, node.name, promise


def rows() -> set[tuple[int, str, str]]:
    """The rows of the page's table."""
    found = set()
    for text in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in text.strip("|").split("|")]
        if text.startswith("|") and cells[0].isdigit():
            found.add((int(cells[0]), cells[1].strip("`"), cells[-1]))
    return found


def test_the_page_lists_every_test_of_the_checklist_and_no_other():
    assert rows() == set(marked())


def test_every_line_of_the_checklist_has_a_test():
    tested = {line for line, _, _ in marked()}
    assert tested == {*range(1, LINES + 1)}
