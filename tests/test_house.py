"""The rules of the house that a machine can check: rooms, links, sizes, words.

Each rule that a linter enforces is also broken here on purpose, in a copy, so that a contract
which silently stopped applying is noticed.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.tree import ROOT, project_files

ROOMS = ("core", "consul_integration", "templates", "cli", "web")
MAX_FILE_LINES = 420
MAX_FUNCTION_LINES = 60


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter in `folder`, on the `lictor` that lies there."""
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command; lint_imports_command()",
            "--no-cache",
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture(scope="module")
def modules() -> dict[str, ast.Module]:
    """Every module of the package, parsed, by its path below the repository."""
    found = [p for p in project_files() if p.suffix == ".py" and p.parts[0] == "lictor"]
    assert len(found) > 20
    return {str(path): ast.parse((ROOT / path).read_text(encoding="utf-8")) for path in found}


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_every_import_contract_is_kept():
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " 0 broken" in result.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("lictor/core/runtime/__init__.py", "import lictor.web"),
        ("lictor/core/planning/__init__.py", "import time"),
        ("lictor/consul_integration/__init__.py", "import lictor.core.runtime"),
        ("lictor/cli/__init__.py", "import consul"),
        ("lictor/core/runtime/__init__.py", "import docker"),
        ("lictor/core/runtime/supervision/__init__.py", "import lictor.core.runtime.answers"),
    ],
)
def test_an_import_across_the_walls_is_noticed(tmp_path, module, line):
    shutil.copytree(ROOT / "lictor", tmp_path / "lictor", ignore=_no_bytecode)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    result = lint_imports(tmp_path)
    assert result.returncode == 1, result.stdout + result.stderr
    importer = module.removesuffix("/__init__.py").replace("/", ".")
    imported = line.removeprefix("import ")
    assert f"{importer} -> {imported}" in result.stdout


def _no_bytecode(_folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name == "__pycache__"]


@pytest.mark.parametrize("room", ROOMS)
def test_the_top_level_shows_the_rooms_as_relative_links(room):
    link = ROOT / room
    assert link.is_symlink()
    assert link.readlink() == Path("lictor", room)
    assert (link / "__init__.py").is_file()


def test_nothing_imports_through_the_links(modules):
    found = [
        f"{path}:{node.lineno}"
        for path, tree in modules.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom) and _first_names(node) & set(ROOMS)
    ]
    assert found == []


def _first_names(node: ast.Import | ast.ImportFrom) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    return set() if node.level else {(node.module or "").split(".")[0]}


def test_every_module_says_what_it_is(modules):
    assert [path for path, tree in modules.items() if not ast.get_docstring(tree)] == []


def test_no_module_has_grown_too_long(modules):
    sizes = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in modules}
    assert {path: n for path, n in sizes.items() if n > MAX_FILE_LINES} == {}


def test_no_function_has_grown_too_long(modules):
    sizes = {
        f"{path}:{function.lineno} {function.name}": function.end_lineno - function.lineno + 1
        for path, tree in modules.items()
        for function in functions(tree)
    }
    assert {name: n for name, n in sizes.items() if n > MAX_FUNCTION_LINES} == {}


# The words are put together here so that this file does not hold what it looks for.
_FOREIGN = re.compile(
    "|".join(
        (
            r"(?<![\w.-])/(?:wo" + r"rk|ro" + r"ot)/",  # somebody's machine
            "py" + "pi",  # a registry's host; the written name has capitals
            "pythonho" + "sted",
            "(?:deb|security)[.]deb" + "ian[.]org",
            "archive[.]ubu" + "ntu[.]com",
            "npm" + "js",
        )
    )
)


@pytest.mark.parametrize(
    "text",
    [
        "cd /wo" + "rk/main",
        '"/ro' + 'ot/.venv"',
        "https://py" + "pi.org/simple",
        "http://deb.deb" + "ian.org/debian",
    ],
)
def test_a_machine_path_or_a_registry_would_be_found(text):
    assert _FOREIGN.search(text)


def test_no_file_names_a_machine_or_a_registry():
    found = []
    for path in project_files():
        if (ROOT / path).is_symlink():
            continue
        try:
            lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:  # a picture or an archive
            continue
        found += [f"{path}:{n}: {x}" for n, x in enumerate(lines, 1) if _FOREIGN.search(x)]
    assert found == []


@pytest.mark.parametrize("path", [".ci/run", "scripts/bootstrap"])
def test_scripts_can_be_run_and_stop_at_the_first_error(path):
    assert os.access(ROOT / path, os.X_OK)
    text = (ROOT / path).read_text(encoding="utf-8")
    assert "\nset -euo pipefail\n" in text
    subprocess.run(["bash", "-n", ROOT / path], check=True, timeout=20)


def test_every_target_in_the_help_of_make_exists():
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    text = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=20
    ).stdout
    targets = [line.split()[1] for line in text.splitlines()]
    assert {"run", "test", "check", "bench", "clean"} <= set(targets)
    for target in targets:
        subprocess.run(
            ["make", "--dry-run", target], cwd=ROOT, stdout=subprocess.DEVNULL, check=True
        )


def test_the_page_of_consuls_room_names_each_of_its_modules(modules):
    room = "lictor/consul_integration/"
    page = ast.get_docstring(modules[f"{room}__init__.py"]) or ""
    there = {Path(path).stem for path in modules if path.startswith(room)} - {"__init__"}
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == there
