"""The Docker library is for those who have containers: it costs a third of a second to load."""

from __future__ import annotations

import subprocess
import sys

PROBE = """
import sys
import lictor.cli.wiring.foreground, lictor.cli.wiring.examining
print("docker" in sys.modules, "requests" in sys.modules)
"""


def test_an_agent_without_containers_loads_no_docker_library():
    done = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split()[0] == "False"
