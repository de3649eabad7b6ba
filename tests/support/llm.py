"""A service that loads a model as vLLM does, for tests of switching: where it is and what it left."""

from __future__ import annotations

import json
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.children import free_port, text_of

_PROGRAM = Path(__file__).with_name("children") / "llm.py"


@dataclass(frozen=True)
class Llm:
    """One service of that kind: its files are in `folder`, its port is its own."""

    folder: Path
    port: int

    @classmethod
    def made(cls, folder: Path) -> Llm:
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder, free_port())

    def service(self, *, seconds: float = 0.4, startup: str = "30s", **more: Any) -> dict[str, Any]:
        """Its entry in config.yml."""
        program = [sys.executable, "-u", str(_PROGRAM), "--port", "{port}", "--folder"]
        return {
            "command": [
                *program,
                str(self.folder),
                "--seconds",
                str(seconds),
                "--model",
                "{param.model}",
            ],
            "port": self.port,
            "health": {"http": "/health", "interval": "1s", "startup": startup},
            "env": {"HF_HOME": str(self.folder / "hf")},
            "params": {"model": {"default": "org/first"}},
            "stop": {"pause": "0s", "timeout": "5s"},
            **more,
        }

    @property
    def started(self) -> list[str]:
        """Every model that was ever begun to load, in order."""
        return text_of(self.folder / "started").split()

    @property
    def doubled(self) -> bool:
        """Whether two models were ever loaded at a time."""
        return (self.folder / "doubled").exists()

    def go(self) -> None:
        """Let what stopped half way go on."""
        (self.folder / "go").touch()

    def serves(self) -> str:
        """The model that its API names."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v1/models", timeout=10) as found:
            return str(json.load(found)["data"][0]["id"])
