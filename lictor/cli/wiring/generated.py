"""Files that other programs need to run Lictor, made from this installation and its config.yml.

What is made says what is: this very program, this config, the folders that its services write to.
Nothing here writes a file or starts anything; the person decides where the text goes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from string import Template

from lictor import __version__
from lictor.cli.wiring.configured import find_config, read_config
from lictor.core.config.settings import Config
from lictor.core.errors import UsageError
from lictor.core.model.reason import because
from lictor.core.worded import worded

#: Folders that hold the files of the system itself: a service that lives there writes elsewhere.
_NEVER_OPEN = ("/", "/usr", "/etc", "/boot", "/bin", "/sbin", "/lib", "/lib64", "/proc", "/sys")

_ORDER = """\
After=network-online.target consul.service docker.service
Wants=network-online.target
"""
_PROTECTION = """\
OOMScoreAdjust=-500
$state
# What follows holds for the services as well: they inherit it. A service that writes elsewhere needs
# its folder in ReadWritePaths (`systemctl edit lictor`).
ProtectSystem=strict
ReadWritePaths=$writable
$new_privileges
"""


def systemd_unit(explicit: str | None, *, user: bool) -> str:
    """The text of a unit: for the system's systemd, or for that of one user."""
    path = find_config(explicit)
    config = read_config(path)
    template = files("lictor").joinpath("templates", "systemd", "lictor.service")
    words = {
        "made_by": f"Made by lictor {__version__}: lictor generate systemd{' --user' * user}",
        "install": _install(user=user),
        "order": "" if user else _ORDER,
        "program": _program(),
        "config": _argument(path),
        "data_dir": _word(f"LICTOR_DATA_DIR={config.agent.data_dir}"),
        "folder": _value(path.parent),
        "protection": "" if user else _protection(config),
        "wanted_by": "default.target" if user else "multi-user.target",
    }
    return Template(template.read_text(encoding="utf-8")).substitute(words)


def _install(*, user: bool) -> str:
    if user:
        return (
            "To install: save as ~/.config/systemd/user/lictor.service, then\n"
            "# systemctl --user enable --now lictor; loginctl enable-linger"
        )
    return (
        "To install: save as /etc/systemd/system/lictor.service, then\n"
        "# systemctl enable --now lictor"
    )


def _program() -> str:
    """The `lictor` beside this Python, else this Python with the module."""
    script = Path(sys.executable).with_name("lictor")
    if script.is_file():
        return _argument(script)
    return f"{_argument(sys.executable)} -m lictor"


def _protection(config: Config) -> str:
    # Changing to another user is done by the agent itself, but programs that then use sudo or su
    # would be held back by NoNewPrivileges, and those are found where users differ.
    others = any(spec.user for spec in config.services.values())
    new = "# Not NoNewPrivileges=yes: services run as other users." if others else None
    return Template(_PROTECTION).substitute(
        state=_state(config.agent.data_dir),
        writable=" ".join(_word(f"-{folder}") for folder in _writable(config)),
        new_privileges=new or "NoNewPrivileges=yes",
    )


def _state(data_dir: Path) -> str:
    """The agent cannot make its folder itself in a system that it sees as read-only."""
    usual = Path("/var/lib")
    if data_dir.is_relative_to(usual) and data_dir != usual:
        name = _word(data_dir.relative_to(usual))
        return f"StateDirectory={name}\nStateDirectoryMode=0700"
    return f"ExecStartPre=+/bin/mkdir -p -m 0700 {_argument(data_dir)}"


def _writable(config: Config) -> list[str]:
    """Every folder that the agent or a service is known to write to, without those within others."""
    folders = {str(config.agent.data_dir), "/run", "/tmp", "/var/tmp"}  # noqa: S108 - named, not used
    for spec in config.services.values():
        if spec.driver != "process":
            continue
        folders.add(spec.cwd)
        folders.update(str(Path(log).parent) for log in spec.logs)
        home = spec.env.get("HOME")
        if isinstance(home, str):
            folders.add(home)
    return _outermost(folder for folder in folders if folder not in _NEVER_OPEN)


def _outermost(folders: Iterable[str]) -> list[str]:
    result: list[str] = []
    for folder in sorted(folders):
        if folder.startswith("/") and not any(
            folder == kept or folder.startswith(kept + "/") for kept in result
        ):
            result.append(folder)
    return result


def _value(text: Path | str) -> str:
    """A setting that takes the rest of its line: only `%` is special (systemd.unit(5))."""
    if any(ord(letter) < 32 for letter in str(text)):
        raise worded(UsageError, because("ask.unit_text", text=repr(str(text))))
    return str(text).replace("%", "%%")


def _word(text: Path | str) -> str:
    """One of several words of a setting, in quotes if it needs them (systemd.syntax(7))."""
    word = _value(text)
    if any(letter in word for letter in " \"'\\;#"):
        return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return word


def _argument(text: Path | str) -> str:
    """One word of a command line, where `$` would name a variable (systemd.service(5))."""
    return _word(str(text).replace("$", "$$"))
