"""A Docker engine of the tests' own: its socket, its data and its containers are in a folder of /tmp.

It needs no network and no registry: its one image is busybox, imported from this host's program.
It has no bridge and touches no firewall, so containers share the host's network or have none. A test
may freeze it, kill it and start it again; `close` ends its containers, itself and what it mounted.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import docker
import docker.errors
import pytest

from tests.support.tools import missing

IMAGE = "bb:1"
_APPLETS = (
    "sh",
    "sleep",
    "httpd",
    "echo",
    "cat",
    "kill",
    "seq",
    "env",
    "id",
    "test",
    "date",
    "tail",
)
_PATIENCE = 60.0


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        missing(name)
    return found


class DockerEngine:
    """One engine. `options` go to dockerd (`--live-restore`)."""

    def __init__(self, *options: str) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root can run a Docker engine of its own")
        self._program = _program("dockerd")
        self._containerd = _program("containerd")
        self._busybox = _program("busybox")
        self._options = options
        self.dir = Path(tempfile.mkdtemp(prefix="lictor-dk-", dir="/tmp"))
        self._process: subprocess.Popen[bytes] | None = None
        self._below: subprocess.Popen[bytes] | None = None
        self._client: docker.APIClient | None = None

    @property
    def socket(self) -> Path:
        return self.dir / "docker.sock"

    @property
    def address(self) -> str:
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def api(self) -> docker.APIClient:
        """The tests' own view of it, past all of Lictor's code."""
        if self._client is None:
            self._client = docker.APIClient(base_url=self.address, version="auto", timeout=60)
        return self._client

    def start(self) -> DockerEngine:
        """Start it, and return when it answers and has the image."""
        self._spawn()
        if not self.api.images(name=IMAGE):
            self.api.import_image_from_data(_rootfs(self._busybox), repository="bb", tag="1")
        return self

    def _spawn_below(self) -> None:
        """containerd on its own, as service managers run it: it outlives a dockerd that is killed."""
        below = self.dir / "c"
        below.mkdir(exist_ok=True)
        (below / "config.toml").write_text(
            f'version = 2\nroot = "{below}/root"\nstate = "{below}/state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\naddress = "{below}/sock"\n'
        )
        with (self.dir / "log").open("ab") as log:
            self._below = subprocess.Popen(
                [self._containerd, "--config", str(below / "config.toml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env(),
                start_new_session=True,
            )
        deadline = time.monotonic() + _PATIENCE
        while not (below / "sock").exists() and time.monotonic() < deadline:
            time.sleep(0.02)

    def _env(self) -> dict[str, str]:
        return {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}

    def _spawn(self) -> None:
        if self._below is None:
            self._spawn_below()
        with (self.dir / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(self._program, "--host", self.address),
                    *("--data-root", str(self.dir / "data"), "--exec-root", str(self.dir / "x")),
                    *("--pidfile", str(self.dir / "pid"), "--storage-driver", "vfs"),
                    *("--containerd", str(self.dir / "c" / "sock")),
                    *("--bridge", "none", "--iptables=false", "--ip6tables=false"),
                    *self._options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env(),
                start_new_session=True,
            )
        deadline = time.monotonic() + _PATIENCE
        while not self._answers():
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                raise RuntimeError(f"dockerd did not start:\n{self.log()[-3000:]}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as knock:
            try:
                knock.connect(str(self.socket))
            except OSError:
                return False
        try:
            return bool(self.api.ping())
        except (docker.errors.DockerException, OSError):
            self._forget_client()
            return False

    def _forget_client(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def log(self) -> str:
        with contextlib.suppress(OSError):
            return (self.dir / "log").read_text(errors="replace")
        return ""

    # --- faults ---------------------------------------------------------------------------------

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """From one moment to the next; its containers may live on."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """In order, as a service manager does it."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None, "not started"
        self._forget_client()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGCONT)
            os.kill(self._process.pid, number)
        self._process.wait(_PATIENCE)

    # --- looking --------------------------------------------------------------------------------

    def containers(self) -> list[dict[str, Any]]:
        """All of them, running or not."""
        found: list[dict[str, Any]] = self.api.containers(all=True)
        return found

    def inspect(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.api.inspect_container(name)
        return found

    def made_and_ended(self, owner: str, since: float) -> list[tuple[str, str]]:
        """`create` and `die` of one installation's containers with their ids, in order.

        `since` is a wall clock's time. It goes to the engine as text with its fraction: the client
        cuts numbers to whole seconds, and what happened earlier in the same one would come along.
        """
        events = self.api.events(
            since=f"{since:.6f}",
            until=int(time.time()) + 1,
            filters={"label": f"lictor.owner={owner}", "event": ["create", "die"]},
            decode=True,
        )
        return [(event["Action"], event["id"]) for event in events]

    def run(self, name: str, *command: str, **labels: str) -> str:
        """A container that is nobody of ours; its id."""
        made = self.api.create_container(
            IMAGE,
            list(command) or ["sleep", "1000"],
            name=name,
            labels=labels,
            host_config=self.api.create_host_config(network_mode="none"),
        )
        self.api.start(made["Id"])
        return str(made["Id"])

    def remove_of(self, owner: str) -> None:
        """Remove every container of one installation; nothing on an engine that has ended."""
        if self._process is None or self._process.poll() is not None:
            return
        self.clear({"label": f"lictor.owner={owner}"})

    def clear(self, filters: dict[str, str] | None = None) -> None:
        """Remove every container."""
        for one in self.api.containers(all=True, filters=filters):
            with contextlib.suppress(docker.errors.APIError):
                self.api.remove_container(one["Id"], force=True)

    def close(self) -> None:
        """End everything that it started, and itself."""
        with contextlib.suppress(Exception):
            if self._process is None or self._process.poll() is not None:
                self._spawn()
            self.thaw()
            self.clear()
        if self._process is not None and self._process.poll() is None:
            try:
                self._end(signal.SIGTERM)
            except subprocess.TimeoutExpired:
                self._end(signal.SIGKILL)
        self._forget_client()
        if self._below is not None:
            self._below.terminate()
            self._below.wait(_PATIENCE)
        self._end_helpers()
        for mount in _mounts_below(self.dir):
            subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
        shutil.rmtree(self.dir, ignore_errors=True)

    def _end_helpers(self) -> None:
        """containerd and the shims that outlived their engine: known by our folder in their argv."""
        mark = str(self.dir).encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError):
                argv = (folder / "cmdline").read_bytes()
                if mark in argv and b"containerd" in argv and int(folder.name) != os.getpid():
                    os.kill(int(folder.name), signal.SIGKILL)


def _mounts_below(folder: Path) -> list[str]:
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    found = [line.split()[1] for line in lines if line.split()[1].startswith(f"{folder}/")]
    return sorted(found, reverse=True)


def _rootfs(busybox: str) -> bytes:
    """A file system with busybox and its links, as a tar."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as tar:
        for name in ("bin", "tmp", "www"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o777
            tar.addfile(entry)
        program = Path(busybox).read_bytes()
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(program), 0o755
        tar.addfile(entry, io.BytesIO(program))
        for name in _APPLETS:
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, "busybox", 0o777
            tar.addfile(entry)
        page = tarfile.TarInfo("www/index.html")
        page.size, page.mode = 3, 0o644
        tar.addfile(page, io.BytesIO(b"ok\n"))
    return held.getvalue()
