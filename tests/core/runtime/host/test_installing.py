"""`lictor install` with a stand-in for Python: what it does once, again, and after a failure."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from lictor.core.errors import InstallFailed, OperationFailed
from lictor.core.model.install import InstallFile, InstallSpec
from lictor.core.runtime.host.installing import Surround, install, nothing_to_install

# Knows what an installation asks of a Python, and writes down each question.
PYTHON = """#!/bin/bash
echo "$*" >>"LOG"
here="$(cd "$(dirname "$0")" && pwd)"
case "$*" in
  "-m venv --clear "*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
  "-m pip --version") [[ $here == */venvs/voice/bin ]] ;;
  "-m pip install "*)
    [[ ! -e LOG.refuse ]] || { rm LOG.refuse; exit 1; }
    [[ ! -e LOG.always ]] || exit 1
    mkdir -p "$here/../lib/voice/data" && echo x >"$here/../lib/voice/data/a.onnx" ;;
  "-c import "*) [[ ! -e LOG.broken ]] ;;
  *find_spec*) [[ ! -e LOG.lost ]] && cd "$here/../lib/voice" && pwd ;;
  *) exit 99 ;;
esac
"""


class Scene:
    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.log = folder / "log"
        self.python = folder / "python"
        self.python.write_text(PYTHON.replace("LOG", str(self.log)))
        self.python.chmod(0o755)
        self.steps: list[str] = []
        self.pauses: list[float] = []
        self.spec = InstallSpec(
            venv=str(self.data / "venvs" / "voice"),
            packages=("voice-server[http]==1.8.0",),
            no_deps=("voice-model==1.0.0",),
            imports=("voice", "voice.server"),
            files=(InstallFile(str(self.data / "voices" / "a.onnx"), "voice", "data/a.onnx"),),
        )

    def install(self, spec: InstallSpec | None = None, **more) -> bool:
        around = Surround(
            data_dir=self.data,
            python=more.pop("python", str(self.python)),
            told=lambda reason: self.steps.append(reason.code),
            output=2,
            pause=self.pauses.append,
            **more,
        )
        return install("voice", spec or self.spec, around)

    def asked(self, what: str = "") -> int:
        return self.log.read_text().count(what) if self.log.exists() else 0

    def cause(self, what: str) -> None:
        Path(f"{self.log}.{what}").touch()

    def end(self, what: str) -> None:
        Path(f"{self.log}.{what}").unlink()


@pytest.fixture
def scene(tmp_path) -> Scene:
    return Scene(tmp_path)


def test_the_first_time_everything_is_brought_and_the_second_time_nothing_is_asked(scene):
    assert scene.install()
    assert (scene.data / "voices" / "a.onnx").read_text() == "x\n"
    assert scene.data.stat().st_mode & 0o777 == 0o700
    assert scene.steps == [
        *("install.venv", "install.packages", "install.packages", "install.verified"),
        "install.file",
    ]
    lines = scene.log.read_text().splitlines()
    (with_deps,) = [line for line in lines if line.endswith("voice-server[http]==1.8.0")]
    (without,) = [line for line in lines if line.endswith("--no-deps voice-model==1.0.0")]
    assert "--no-deps" not in with_deps
    assert "--progress-bar off" in without
    before = scene.log.read_text()
    assert not scene.install()
    assert scene.log.read_text() == before


def test_a_registry_that_fails_is_asked_again_with_growing_pauses(scene):
    scene.cause("refuse")
    assert scene.install()
    assert scene.asked("pip install") == 3
    assert scene.pauses == [3.0]


def test_when_the_registry_stays_away_it_fails_and_goes_on_the_next_time(scene):
    scene.cause("always")
    with pytest.raises(InstallFailed) as caught:
        scene.install()
    assert caught.value.reason_code == "install.no_packages"
    assert "voice-server" in caught.value.message
    assert scene.pauses == [3.0, 9.0, 27.0]
    scene.end("always")
    assert scene.install()
    assert scene.asked("venv --clear") == 1  # the environment of the first time is used


def test_other_versions_are_installed_into_the_same_environment(scene):
    scene.install()
    newer = InstallSpec(venv=scene.spec.venv, packages=("voice-server[http]==1.9.0",))
    assert scene.install(newer)
    assert scene.asked("==1.9.0") == 1
    assert scene.asked("venv --clear") == 1


def test_a_half_made_environment_is_made_anew(scene):
    broken = Path(scene.spec.venv) / "bin" / "python"
    broken.parent.mkdir(parents=True)
    broken.write_text("#!/bin/false\n")
    broken.chmod(0o755)
    assert scene.install()
    assert scene.asked("venv --clear") == 1


def test_a_lost_file_is_linked_again(scene):
    scene.install()
    voice = scene.data / "voices" / "a.onnx"
    voice.unlink()
    assert scene.install()
    assert voice.exists()
    assert scene.asked("pip install") == 2


def test_a_package_that_cannot_be_imported_is_not_called_done(scene):
    scene.cause("broken")
    for _ in range(2):
        with pytest.raises(InstallFailed) as caught:
            scene.install()
        assert caught.value.reason_code == "install.not_importable"
    scene.end("broken")
    assert scene.install()


def test_a_package_without_its_file_is_named(scene):
    scene.cause("lost")
    with pytest.raises(InstallFailed) as caught:
        scene.install()
    assert caught.value.reason_code == "install.no_file"
    assert caught.value.params == {"path": "data/a.onnx", "package": "voice"}


@pytest.mark.parametrize("python", ["/bin/false", "/nonexistent"])
def test_a_python_that_makes_no_environments_is_named(scene, python):
    with pytest.raises(InstallFailed) as caught:
        scene.install(python=python)
    assert caught.value.reason_code == "install.no_venv"
    assert python in caught.value.message


def test_two_at_once_wait_for_each_other(scene):
    steps: list[str] = []
    done: list[bool] = []

    def run() -> None:
        around = Surround(
            data_dir=scene.data,
            python=str(scene.python),
            told=lambda reason: steps.append(reason.code),
            output=2,
        )
        done.append(install("voice", scene.spec, around))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(done) == [False, True]
    assert scene.asked("pip install") == 2


def test_a_program_of_ours_is_copied_and_renewed(scene):
    to = scene.data / "venvs" / "llm_server.py"
    spec = InstallSpec(files=(InstallFile(str(to), resource="llm_server.py"),))
    assert scene.install(spec)
    assert "xllamacpp" in to.read_text()
    assert not to.is_symlink()
    assert not scene.install(spec)
    to.write_text("older")
    assert scene.install(spec)
    assert "xllamacpp" in to.read_text()


def test_a_folder_that_cannot_be_written_is_named(scene):
    (scene.data).mkdir()
    (scene.data / "venvs").write_text("a file")
    with pytest.raises(InstallFailed) as caught:
        scene.install()
    assert caught.value.reason_code == "install.os_error"


class Engine:
    def __init__(self, *, fails: bool = False) -> None:
        self.images: set[str] = set()
        self.fails = fails

    def has(self, image: str) -> bool:
        return image in self.images

    def pull(self, image: str, told) -> None:
        if self.fails:
            raise OperationFailed("the registry says no")
        told("layer 1", 0.5)
        told("layer 1", 1.0)
        self.images.add(image)


def test_an_image_is_pulled_once_with_its_progress(scene):
    engine, shares = Engine(), []
    spec = InstallSpec(image="redis:7")
    more = {"puller": engine, "progress": lambda what, share: shares.append((what, share))}
    assert scene.install(spec, **more)
    assert not scene.install(spec, **more)
    assert shares == [("layer 1", 0.5), ("layer 1", 1.0)]
    assert scene.steps == ["install.image"]


def test_an_image_without_an_engine_or_a_registry_is_refused_with_the_reason(scene):
    spec = InstallSpec(image="redis:7")
    with pytest.raises(InstallFailed) as caught:
        scene.install(spec)
    assert caught.value.reason_code == "install.no_puller"
    with pytest.raises(InstallFailed) as caught:
        scene.install(spec, puller=Engine(fails=True))
    assert caught.value.reason_code == "install.no_image"
    assert "the registry says no" in caught.value.message


def test_a_definition_that_declares_nothing_is_seen():
    assert nothing_to_install(InstallSpec())
    assert not nothing_to_install(InstallSpec(image="x"))


def test_whoever_is_killed_while_installing_leaves_no_mark(scene):
    """The mark is written last, so what was interrupted is gone on with."""
    scene.cause("always")
    with pytest.raises(InstallFailed):
        scene.install()
    assert not (Path(scene.spec.venv) / ".lictor-installed").exists()


def test_the_stand_in_is_as_strict_as_it_says(scene):
    asked = subprocess.run([scene.python, "something"], check=False, env=os.environ)
    assert asked.returncode == 99
