"""Lictor: alone (no Consul, no web), and with everything on (Consul, web, a TCP check each)."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import common

from peers.peer import Peer


class Lictor(Peer):
    title = "Lictor"
    consul: str | None = None
    web_port: int | None = None

    @classmethod
    def version(cls) -> str:
        import lictor  # noqa: PLC0415 - only for its version

        return lictor.__version__

    def prepare(self) -> None:
        lines = [
            "agent:",
            "  node: bench",
            f"  data_dir: {self.folder / 'data'}",
            "consul:",
            "  embedded: never",
            f'  address: "{self.consul or "http://127.0.0.1:1"}"',
            "web:",
            f"  port: {self.web_port}" if self.web_port else "  enabled: false",
            "services:",
        ]
        for name, argv in self.commands.items():
            words = ", ".join(f"'{word}'" for word in argv)
            # By default a second crash within ten minutes waits: here every run counts for itself.
            lines += [f"  {name}:", f"    command: [{words}]", "    restart: {reset_after: 10s}"]
            lines += self.more(name)
        path = self.folder / "config.yml"
        path.write_text("\n".join(lines) + "\n")
        path.chmod(0o600)

    def more(self, name: str) -> list[str]:
        """Further lines of a service's definition."""
        del name
        return []

    def env(self) -> Mapping[str, str]:
        return {"LICTOR_DATA_DIR": str(self.folder / "data")}

    def argv(self) -> Sequence[str | Path]:
        return [common.LICTOR, "up", "-c", self.folder / "config.yml"]

    def ask(self, op: str, **args: object) -> object:
        """One question over the control socket, on a connection of its own, as the CLI asks."""
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(30)
            link.connect(str(self.folder / "data" / "lictor.sock"))
            link.sendall(json.dumps({"op": op, "args": args}).encode() + b"\n")
            with link.makefile("rb") as answer:
                said = json.loads(answer.readline())
        return said["ok"]

    def status(self) -> Callable[[], object]:
        return lambda: self.ask("status")

    def all_ready(self, limit: float = 60.0) -> None:
        """Wait until it answers and says that every service is ready."""
        end = time.monotonic() + limit
        while True:
            try:
                phases = [row["phase"] for row in self.ask("status")]  # type: ignore[attr-defined]
            except (OSError, ValueError, KeyError):
                phases = []
            if len(phases) >= self.count and set(phases) == {"ready"}:
                return
            if time.monotonic() > end:
                raise RuntimeError(f"not all ready: {phases}")
            time.sleep(0.1)


class LictorWithAll(Lictor):
    """The whole agent: registered in the Consul at `consul`, web on, each service with a check."""

    title = "Lictor with Consul, web, checks"

    def command(self, program: Path, name: str) -> list[str]:
        if not hasattr(self, "ports"):
            self.ports = dict(zip(self.names, _ports(self.count + 1), strict=False))
            self.web_port = _ports(1)[0]
        return [*super().command(program, name), str(self.ports[name])]

    def more(self, name: str) -> list[str]:
        check = '    health: {tcp: "{host}:{port}", interval: 10s}'
        return [f"    port: {self.ports[name]}", check]


def _ports(count: int) -> list[int]:
    """Ports that nobody holds now, all different."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in held]
    finally:
        for one in held:
            one.close()
