"""Real servers of other people that some tests ask: Redis and PostgreSQL, on free ports of loopback.

They keep their data in a folder of the test and end with it. `scripts/bootstrap dev` brings them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.children import free_port
from tests.support.tools import missing

_NOBODY = 65534


@contextlib.contextmanager
def redis(*options: str) -> Iterator[int]:
    """A Redis without persistence; its port. It may not listen yet."""
    with _folder() as folder:
        port = free_port()
        program = _redis_program(folder)
        where = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
        with _running([str(program), *where, "--save", "", *options]):
            yield port


@contextlib.contextmanager
def postgres(*options: str, tls: bool = False) -> Iterator[int]:
    """A PostgreSQL whose users need no password; its port. It may not listen yet."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        missing("PostgreSQL")
    bin_dir, port = found[-1].parent, free_port()
    with _folder() as folder:
        data = folder / "data"
        subprocess.run(
            [bin_dir / "initdb", "-D", data, "-U", "postgres", "--no-sync", "-A", "trust"],
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=60,
            cwd=folder,
            **_nobody(),
        )
        settings = [f"port={port}", "listen_addresses=127.0.0.1", "fsync=off", *options]
        settings.append(f"unix_socket_directories={folder}")
        if tls:
            settings += ["ssl=on", *_certificate(folder)]
        words = [word for text in settings for word in ("-c", text)]
        with _running([str(bin_dir / "postgres"), "-D", str(data), *words], cwd=folder):
            yield port


def _certificate(folder: Path) -> list[str]:
    """A certificate that nobody has signed, in the settings of PostgreSQL."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    if shutil.which("openssl") is None:
        missing("openssl")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=nobody"),
            *("-keyout", key, "-out", cert),
        ],
        stderr=subprocess.DEVNULL,
        check=True,
        timeout=60,
        **_nobody(),
    )
    key.chmod(0o600)
    return [f"ssl_cert_file={cert}", f"ssl_key_file={key}"]


def _redis_program(folder: Path) -> Path:
    """Debian's redis-tools has the server too, under the name of a tool: the name decides."""
    whole = shutil.which("redis-server")
    if whole is not None:
        return Path(whole)
    tool = shutil.which("redis-check-rdb")
    if tool is None:
        missing("Redis")
    (folder / "redis-server").symlink_to(tool)
    return folder / "redis-server"


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder that the servers may write to, whoever we are."""
    with tempfile.TemporaryDirectory(prefix="lictor-s-") as name:
        if os.geteuid() == 0:
            os.chown(name, _NOBODY, _NOBODY)
        yield Path(name)


def _nobody() -> dict[str, int]:
    """PostgreSQL refuses to run as root."""
    return {"user": _NOBODY, "group": _NOBODY} if os.geteuid() == 0 else {}


@contextlib.contextmanager
def _running(argv: list[str], cwd: Path | None = None) -> Iterator[None]:
    server = subprocess.Popen(
        argv,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **_nobody(),
    )
    try:
        yield
    finally:
        server.send_signal(signal.SIGINT)  # PostgreSQL's fast way down
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
