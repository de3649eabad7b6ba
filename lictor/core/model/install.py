"""What `lictor install` brings for a service: declared as data in its definition, never a script.

A virtual environment with pinned packages, files that lie inside those packages, small programs that
ship with Lictor, an image. Nothing here is fetched at a start: a start only looks whether the files
that its command names are there (`missing_for`), so that it can say what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InstallFile:
    """One file to put at `to`: `path` inside the importable package `package`, or our `resource`.

    A file of a package is linked, because it may be large; a resource of Lictor is copied, because
    Lictor may be replaced while the service runs.
    """

    to: str
    package: str = ""
    path: str = ""
    resource: str = ""


@dataclass(frozen=True, slots=True)
class InstallSpec:
    """What has to be there before a service can start.

    `packages` are installed with what they depend on, `no_deps` without. `imports` are modules that
    must be importable afterwards. `image` is pulled. `size` is bytes to download, for people.
    """

    venv: str = ""
    packages: tuple[str, ...] = ()
    no_deps: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    files: tuple[InstallFile, ...] = ()
    image: str | None = None
    size: int | None = None

    def brings(self) -> tuple[str, ...]:
        """Every path that is there once this was installed, as far as it is known before."""
        python = (f"{self.venv}/bin/python",) if self.venv else ()
        return (*python, *(file.to for file in self.files))

    def needed_by(self, words: Iterable[str]) -> tuple[str, ...]:
        """The paths of ours that a command or an environment names.

        A service whose command was replaced in config.yml needs only what it still names. A
        program in the environment's `bin` is ours as well.
        """
        known, programs = set(self.brings()), f"{self.venv}/bin/"
        return tuple(
            dict.fromkeys(
                word for word in words if word in known or (self.venv and word.startswith(programs))
            )
        )
