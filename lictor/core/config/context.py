"""What loading a config depends on besides the file itself.

Everything that comes from outside stands here as a value (environment, remembered ports, the
interpreter, who we are), so that a load is repeatable and a test needs no monkeypatching. Only
`LoadContext.current` looks at the real process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LoadContext:
    """The surroundings of a load.

    `data_dir` (the caller's own choice) beats `$LICTOR_DATA_DIR`, which beats `agent.data_dir`.
    `allocated` are the ports that Lictor chose before, by service key as text. `python` fills
    `{python}`. `is_root` turns on the rules for root.
    """

    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    data_dir: Path | None = None
    allocated: Mapping[str, int] = field(default_factory=dict)
    python: str = sys.executable
    is_root: bool = False

    @classmethod
    def current(
        cls, *, data_dir: Path | None = None, allocated: Mapping[str, int] | None = None
    ) -> LoadContext:
        """The surroundings of this process."""
        return cls(
            env=dict(os.environ),
            data_dir=data_dir,
            allocated=dict(allocated or {}),
            is_root=os.geteuid() == 0,
        )


def resolve(text: str, folder: Path, env: Mapping[str, str]) -> Path:
    """An absolute path: `~/` is $HOME, anything else relative counts from `folder`."""
    if text == "~" or text.startswith("~/"):
        home = env.get("HOME")
        if home:
            text = home + text[1:]
    return Path(os.path.normpath(folder / text))
