"""What a person gets who installs Lictor: one package, with its data, beside anybody's neighbours.

The wheel is really built and really installed, from a copy, so that nothing is written into the
checkout.
"""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

from tests.support.tree import copy_project, project_files


def python(*arguments: str | Path, **env: str) -> str:
    """Run this interpreter; its output, or a failure that shows everything it said.

    It runs away from the checkout: `python -c` also imports from the folder that it starts in.
    """
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=tempfile.gettempdir(),
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of the tree as it is now."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = copy_project(folder / "tree")
    python("-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", tree)
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel) -> set[str]:
    """Every path inside the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A folder with Lictor installed in it, and nothing else."""
    target = tmp_path_factory.mktemp("installed")
    python("-m", "pip", "install", "-qq", "--no-deps", "--no-index", "--target", target, wheel)
    return target


@pytest.fixture(scope="module")
def neighbour(tmp_path_factory) -> Path:
    """Somebody else's packages with our rooms' names, as real projects ship them."""
    target = tmp_path_factory.mktemp("neighbour")
    for name in ("core", "web", "cli", "templates"):
        (target / name).mkdir()
        (target / name / "__init__.py").write_text('WHO = "neighbour"\n')
    return target


def test_the_wheel_brings_one_package_and_nothing_else(names):
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"lictor"}
    assert len(tops) == 2


def test_the_wheel_holds_every_module(names):
    modules = {str(p) for p in project_files() if p.parts[0] == "lictor" and p.suffix == ".py"}
    assert len(modules) > 20
    assert modules - names == set()


def test_the_wheel_holds_every_data_file(names):
    data = {str(p) for p in project_files() if p.parts[0] == "lictor" and p.suffix != ".py"}
    assert data - names == set()
    assert "lictor/py.typed" in names
    for language in ("en", "ru", "zh"):
        assert f"lictor/core/locales/{language}/reasons.json" in names
    assert any(n.startswith("lictor/templates/services/") and n.endswith(".yml") for n in names)


def test_the_wheel_names_the_command(wheel, names):
    (path,) = (name for name in names if name.endswith(".dist-info/entry_points.txt"))
    with zipfile.ZipFile(wheel) as archive:
        entries = configparser.ConfigParser()
        entries.read_string(archive.read(path).decode())
    assert dict(entries["console_scripts"]) == {"lictor": "lictor.cli.main:main"}


@pytest.mark.parametrize("ours_first", [True, False])
def test_a_neighbour_with_the_names_of_our_rooms_breaks_nobody(installed, neighbour, ours_first):
    folders = [str(installed), str(neighbour)]
    code = (
        "import core, web, cli, templates, lictor, lictor.core, lictor.web, lictor.cli\n"
        "print({m.WHO for m in (core, web, cli, templates)})\n"
        "print(lictor.__file__)\n"
    )
    said = python(
        "-c", code, PYTHONPATH=os.pathsep.join(folders if ours_first else reversed(folders))
    )
    who, where = said.splitlines()
    assert who == "{'neighbour'}"
    assert Path(where).is_relative_to(installed)


def test_the_installed_sentences_can_be_read(installed):
    code = (
        "from lictor.core import locales\n"
        "for language in locales.LANGUAGES:\n"
        "    print(len(locales.catalogue(language, 'reasons')))\n"
    )
    sizes = python("-c", code, PYTHONPATH=str(installed)).split()
    assert len(sizes) == 3
    assert len(set(sizes)) == 1
    assert int(sizes[0]) > 0


def test_the_tree_can_be_copied_without_its_links(tmp_path, wheel):
    """An archive for a file system without links still builds the same package."""
    tree = copy_project(tmp_path / "tree")
    for link in ("core", "consul_integration", "templates", "cli", "web"):
        (tree / link).unlink()
    python("-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", tree)
    (built,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(built) as one, zipfile.ZipFile(wheel) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())
    shutil.rmtree(tree)
