"""pm2 (node): its command line starts a daemon of its own, which this benchmark then watches."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import common

from peers.peer import BENCH, Peer

_FOLDER = BENCH / "npm" / "node_modules" / "pm2"

_ASK = """
const pm2 = require(process.argv[1]);
let left = Number(process.argv[2]);
pm2.connect(function ask() {
  const begun = process.hrtime.bigint();
  pm2.list((error, list) => {
    if (error) throw error;
    console.log(Number(process.hrtime.bigint() - begun) / 1e9);
    if (--left > 0) setImmediate(ask); else pm2.disconnect();
  });
});
"""


class Pm2(Peer):
    title = "pm2"

    @classmethod
    def missing(cls) -> str | None:
        there = shutil.which("node") and (_FOLDER / "package.json").exists()
        return None if there else "pm2 is not installed"

    @classmethod
    def version(cls) -> str:
        return str(json.loads((_FOLDER / "package.json").read_text())["version"])

    def prepare(self) -> None:
        apps = [
            {
                "name": name,
                "script": argv[0],
                "args": argv[1:],
                "interpreter": "none",
                "exec_mode": "fork",
                "vizion": False,
                "pmx": False,
                "min_uptime": 0,
            }
            for name, argv in self.commands.items()
        ]
        (self.folder / "apps.json").write_text(json.dumps({"apps": apps}))

    def env(self) -> Mapping[str, str]:
        return {"PM2_HOME": str(self.folder / "home"), "PM2_CONCURRENT_ACTIONS": "64"}

    def argv(self) -> Sequence[str | Path]:
        return ["node", _FOLDER / "bin" / "pm2", "start", self.folder / "apps.json", "--silent"]

    def daemon(self) -> int:
        try:
            return int((self.folder / "home" / "pm2.pid").read_text())
        except (OSError, ValueError):
            return 0

    def all_running(self, limit: float = 90.0) -> float:
        last = super().all_running(limit)
        if self._process is not None:
            self._process.wait(60)  # the command line; what it started is the daemon
            time.sleep(0.1)
        return last

    def status_times(self, calls: int) -> list[float]:
        env = common.environment(**self.env())
        argv = ["node", "-e", _ASK, str(_FOLDER), str(calls)]
        done = subprocess.run(
            argv, capture_output=True, text=True, check=True, env=env, timeout=120
        )
        return [float(line) for line in done.stdout.split()]
