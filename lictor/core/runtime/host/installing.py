"""`lictor install`: brings what a service's definition declares, and nothing else.

A virtual environment with pinned packages, links to files inside them, programs that ship with
Lictor, an image. It is idempotent and resumable: what is there is not made again, finished downloads
stay in pip's cache, and the mark that says "whole" is written last. Two at once on one environment
wait for each other. It runs in the caller's process, never in the agent's and never as part of a
start; packages are installed and imported by the environment's own Python, never by ours.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from lictor.core.errors import InstallFailed, OperationFailed
from lictor.core.model.install import InstallFile, InstallSpec
from lictor.core.model.reason import Reason, because
from lictor.core.ports_install import ImagePuller
from lictor.core.runtime import views
from lictor.core.runtime.storage.datadir import write_atomically
from lictor.core.worded import worded

ATTEMPTS = 4
_FIRST_PAUSE = 3.0  # seconds after a failed attempt; three times as long after each further one
_MARK = ".lictor-installed"

#: Finds a package's folder without importing it: some cannot be imported without what they need.
_FOLDER = """
import importlib.util, sys
spec = importlib.util.find_spec(sys.argv[1])
if spec is None or not spec.submodule_search_locations:
    raise SystemExit(1)
print(next(iter(spec.submodule_search_locations)))
"""


@dataclass(frozen=True, slots=True)
class Surround:
    """What an installation is done with.

    `told` hears of each step; `output` is the descriptor that pip's own lines go to, `bar` whether
    it may draw there; `python` makes environments.
    """

    data_dir: Path
    python: str
    told: Callable[[Reason], None]
    output: int
    bar: bool = False
    puller: ImagePuller | None = None
    progress: Callable[[str, float | None], None] = lambda _what, _share: None
    pause: Callable[[float], None] = time.sleep


def nothing_to_install(spec: InstallSpec) -> bool:
    """Whether a definition declares nothing."""
    return not (spec.venv or spec.files or spec.image)


def install(name: str, spec: InstallSpec, around: Surround) -> bool:
    """Bring what `spec` declares; True: something was done, False: all was there.

    Raises `InstallFailed` with its reason.
    """
    try:
        # As the agent would make it: it holds the agent's secrets later.
        around.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(name, spec, around):
            changed = _environment(spec, around) if spec.venv else False
            for file in spec.files:
                changed = _file(file, spec, around) or changed
            if spec.image is not None:
                changed = _image(spec.image, around) or changed
    except OSError as error:
        why = error.strerror or str(error)
        where = str(error.filename or around.data_dir)
        raise _failed(because("install.os_error", path=where, error=why)) from error
    return changed


def _failed(reason: Reason) -> InstallFailed:
    return InstallFailed(views.say(reason), reason_code=reason.code, params=dict(reason.params))


@contextlib.contextmanager
def _alone(name: str, spec: InstallSpec, around: Surround) -> Iterator[None]:
    """Hold the lock of the environment: another `lictor install` of it is waited for."""
    target = Path(spec.venv) if spec.venv else around.data_dir / name
    target.parent.mkdir(parents=True, exist_ok=True)
    path = target.with_name(f".{target.name}.lock")
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            around.told(because("install.waiting", name=name))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


# --- the environment ---------------------------------------------------------------------------


def _environment(spec: InstallSpec, around: Surround) -> bool:
    venv = Path(spec.venv)
    mark, wanted = venv / _MARK, _digest(spec)
    if _read(mark) == wanted and (venv / "bin" / "python").exists():
        return False
    mark.unlink(missing_ok=True)
    _make_venv(venv, around)
    _packages(venv, spec.packages, (), around)
    _packages(venv, spec.no_deps, ("--no-deps",), around)
    _verify(venv, spec.imports, around)
    write_atomically(mark, wanted, 0o644)
    return True


def _digest(spec: InstallSpec) -> str:
    """Of what is in the environment: another folder of the same packages counts as the same."""
    parts = (spec.packages, spec.no_deps, spec.imports)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _make_venv(venv: Path, around: Surround) -> None:
    python = str(venv / "bin" / "python")
    # An interrupted `venv` leaves what looks whole and lacks pip.
    if (venv / "bin" / "python").exists() and _quiet([python, "-m", "pip", "--version"]):
        return
    around.told(because("install.venv", path=str(venv)))
    made = _run([around.python, "-m", "venv", "--clear", str(venv)], around)
    if not made:
        raise _failed(because("install.no_venv", python=around.python))


def _packages(
    venv: Path, packages: Sequence[str], options: Sequence[str], around: Surround
) -> None:
    """Registries are slow at times and break off: pip goes on from the downloads it finished."""
    if not packages:
        return
    command = [
        *(str(venv / "bin" / "python"), "-m", "pip", "install"),
        *("--disable-pip-version-check", "--no-input", "--root-user-action", "ignore"),
        *("--progress-bar", "on" if around.bar else "off", "--retries", "5", "--timeout", "60"),
        *options,
        *packages,
    ]
    names = " ".join(packages)
    pause = _FIRST_PAUSE
    for attempt in range(1, ATTEMPTS + 1):
        around.told(because("install.packages", packages=names, attempt=attempt, attempts=ATTEMPTS))
        if _run(command, around):
            return
        if attempt < ATTEMPTS:
            around.told(because("install.again", seconds=pause))
            around.pause(pause)
            pause *= 3
    raise _failed(because("install.no_packages", packages=names, attempts=ATTEMPTS))


def _verify(venv: Path, modules: Sequence[str], around: Surround) -> None:
    if not modules:
        return
    names = ", ".join(modules)
    command = [str(venv / "bin" / "python"), "-c", f"import {names}"]
    if not _run(command, around):
        raise _failed(because("install.not_importable", modules=names, path=str(venv)))
    around.told(because("install.verified", modules=names))


# --- files and images --------------------------------------------------------------------------


def _file(file: InstallFile, spec: InstallSpec, around: Surround) -> bool:
    to = Path(file.to)
    if file.resource:
        content = files("lictor").joinpath("templates", "programs", file.resource)
        text = content.read_text(encoding="utf-8")
        if _read(to) == text:
            return False
        to.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(to, text, 0o644)
    else:
        if to.exists():
            return False
        to.parent.mkdir(parents=True, exist_ok=True)
        source = _in_package(Path(spec.venv), file)
        fresh = to.with_name(f".{to.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(source)
        fresh.replace(to)
    around.told(because("install.file", path=file.to))
    return True


def _in_package(venv: Path, file: InstallFile) -> Path:
    python = str(venv / "bin" / "python")
    asked = subprocess.run(
        [python, "-c", _FOLDER, file.package],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    source = Path(asked.stdout.strip()) / file.path
    if asked.returncode != 0 or not source.exists():
        raise _failed(because("install.no_file", path=file.path, package=file.package))
    return source


def _image(image: str, around: Surround) -> bool:
    if around.puller is None:
        raise _failed(because("install.no_puller", image=image))
    try:
        if around.puller.has(image):
            return False
        around.told(because("install.image", image=image))
        around.puller.pull(image, around.progress)
    except InstallFailed:
        raise
    except OperationFailed as error:
        raise _not_pulled(image, error) from error
    return True


def _not_pulled(image: str, error: OperationFailed) -> InstallFailed:
    """With what the engine's side said and advised; its codes, if it has some, in place of text."""
    plain = because("install.no_image", image=image, error=error.message)
    why = (because("install.no_image_as", image=image), *error.reasons)
    return worded(
        InstallFailed,
        *(why if error.reasons else (plain,)),
        hint=next(iter(error.hint_reasons), None),
        reason_code=plain.code,
        params=dict(plain.params),
    )


# --- programs ----------------------------------------------------------------------------------


def _run(command: Sequence[str], around: Surround) -> bool:
    """Run a program whose lines the person sees; whether it ended well."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=around.output,
            stderr=around.output,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0


def _quiet(command: Sequence[str]) -> bool:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0
