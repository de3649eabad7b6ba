"""scripts/get-consul: what it takes, what it refuses, and what it says when there is nothing."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import platform
import shutil
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "get-consul"
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
FAKE = "#!/bin/sh\necho Consul v9.9.9\n"


@pytest.fixture
def path(tmp_path) -> str:
    """A PATH with everything but a Consul."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for folder in os.environ["PATH"].split(":"):
        for program in Path(folder).glob("*") if Path(folder).is_dir() else ():
            link = tools / program.name
            if program.name != "consul" and not link.is_symlink() and os.access(program, os.X_OK):
                link.symlink_to(program)
    return str(tools)


def fake(at: Path, text: str = FAKE) -> Path:
    at.parent.mkdir(parents=True, exist_ok=True)
    at.write_text(text)
    at.chmod(0o755)
    return at


def run(folder: Path, path: str, script: Path = SCRIPT, **env: str):
    return subprocess.run(
        ["/bin/bash", script, folder],
        env={"PATH": path, "HOME": str(folder), "CONSUL_SOURCES": "", **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize("name", ["get-consul", "get-piper"])
def test_the_scripts_are_sound_bash_and_can_be_executed(name):
    script = ROOT / "scripts" / name
    assert subprocess.run(["/bin/bash", "-n", script], check=False).returncode == 0
    assert os.access(script, os.X_OK)
    checker = shutil.which("shellcheck")
    if checker:
        assert subprocess.run([checker, script], check=False).returncode == 0


@pytest.mark.parametrize("name", ["get-consul", "get-piper"])
def test_a_wrong_command_line_is_a_usage_error(name):
    script = ROOT / "scripts" / name
    asked = subprocess.run([script, "--help"], capture_output=True, text=True, check=False)
    assert asked.returncode == 2
    assert asked.stderr.startswith(f"usage: {name}")
    assert asked.stdout == ""


def test_a_consul_that_was_named_is_printed_and_nothing_is_made(tmp_path, path):
    named = fake(tmp_path / "named" / "consul")
    for _ in range(2):
        result = run(tmp_path / "out", path, CONSUL_BIN=str(named))
        assert (result.returncode, result.stdout) == (0, f"{named}\n")
        assert "Consul v9.9.9" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_named_consul_that_is_none_is_an_error_and_never_replaced(tmp_path, path):
    for broken in (tmp_path / "missing", fake(tmp_path / "broken", "#!/bin/sh\nexit 1\n")):
        fake(tmp_path / "out" / "consul")
        result = run(tmp_path / "out", path, CONSUL_BIN=str(broken))
        assert (result.returncode, result.stdout) == (6, "")
        assert str(broken) in result.stderr


def test_a_consul_on_path_comes_before_the_one_in_the_folder(tmp_path, path):
    on_path = fake(tmp_path / "bin" / "consul")
    fetched = fake(tmp_path / "out" / "consul")
    assert run(tmp_path / "out", f"{on_path.parent}:{path}").stdout == f"{on_path}\n"
    assert run(tmp_path / "out", path).stdout == f"{fetched}\n"


def test_where_nothing_can_be_had_it_says_so_in_one_sentence_and_exits_6(tmp_path, path):
    result = run(tmp_path / "out", path)
    assert (result.returncode, result.stdout) == (6, "")
    assert result.stderr.count("\n") == 1
    assert "CONSUL_BIN" in result.stderr


def test_every_source_that_fails_is_named_before_it_gives_up(tmp_path, path):
    for name in ("apt-get", "dpkg"):
        (Path(path) / name).unlink(missing_ok=True)
    result = run(
        tmp_path / "out",
        path,
        CONSUL_SOURCES="release apt copy",
        CONSUL_RELEASES="http://127.0.0.1:1/consul",
        CONSUL_PACKAGES=str(tmp_path / "nothing"),
    )
    assert (result.returncode, result.stdout) == (6, "")
    for source in ("release:", "apt:", "copy:"):
        assert source in result.stderr
    assert not (tmp_path / "out" / "consul").exists()


def test_an_unknown_source_is_a_usage_error(tmp_path, path):
    result = run(tmp_path / "out", path, CONSUL_SOURCES="elsewhere")
    assert result.returncode == 2
    assert "elsewhere" in result.stderr


# --- release -----------------------------------------------------------------------------------


@pytest.fixture
def releases(tmp_path) -> Iterator[tuple[str, str]]:
    """A mirror with a release of ours: its address and the archive's SHA-256."""
    folder = tmp_path / "mirror"
    archive = folder / "9.9.9" / f"consul_9.9.9_linux_{ARCH}.zip"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("LICENSE.txt", "free")
        made.writestr("consul", FAKE)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = http.server.HTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield (
            f"http://127.0.0.1:{server.server_port}",
            hashlib.sha256(archive.read_bytes()).hexdigest(),
        )
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("tool", ["curl", "wget"])
def test_a_release_whose_sum_is_right_is_installed_once(tmp_path, path, releases, tool):
    if not (Path(path) / tool).exists():
        pytest.skip(f"no {tool} here")
    if tool == "wget":
        (Path(path) / "curl").unlink(missing_ok=True)
    address, sha256 = releases
    env = {
        "CONSUL_SOURCES": "release",
        "CONSUL_RELEASES": address,
        "CONSUL_VERSION": "9.9.9",
        "CONSUL_SHA256": sha256,
    }
    result = run(tmp_path / "out", path, **env)
    assert (result.returncode, result.stdout) == (0, f"{tmp_path}/out/consul\n"), result.stderr
    assert "installed: Consul v9.9.9" in result.stderr
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["consul"]
    again = run(tmp_path / "out", path, **env)
    assert again.stdout == result.stdout
    assert "nothing to do" in again.stderr


def test_a_release_whose_sum_is_wrong_is_not_used(tmp_path, path, releases):
    env = {"CONSUL_SOURCES": "release", "CONSUL_RELEASES": releases[0], "CONSUL_VERSION": "9.9.9"}
    result = run(tmp_path / "out", path, CONSUL_SHA256="0" * 64, **env)
    assert result.returncode == 6
    assert "not used" in result.stderr
    assert not (tmp_path / "out").exists()


def test_another_version_than_the_pinned_one_needs_its_own_sum(tmp_path, path, releases):
    env = {"CONSUL_SOURCES": "release", "CONSUL_RELEASES": releases[0], "CONSUL_VERSION": "9.9.9"}
    result = run(tmp_path / "out", path, **env)
    assert result.returncode == 6
    assert "CONSUL_SHA256" in result.stderr


# --- Debian's package --------------------------------------------------------------------------


def package(folder: Path, binary: str) -> Path:
    """A .deb of the pinned name, with this text as its /usr/bin/consul."""
    root = folder / "root"
    fake(root / "usr" / "bin" / "consul", binary)
    control = root / "DEBIAN" / "control"
    control.parent.mkdir()
    control.write_text(
        f"Package: consul\nVersion: 1.8.7+dfsg1-2+b3\nArchitecture: {ARCH}\n"
        "Maintainer: nobody <nobody@localhost>\nDescription: none\n"
    )
    made = folder / f"consul_1.8.7+dfsg1-2+b3_{ARCH}.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-b", root, made],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return made


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg here")
def test_a_kept_copy_with_another_binary_inside_is_not_used(tmp_path, path):
    (tmp_path / "packages").mkdir()
    package(tmp_path / "packages", FAKE)
    result = run(
        tmp_path / "out", path, CONSUL_SOURCES="copy", CONSUL_PACKAGES=str(tmp_path / "packages")
    )
    assert (result.returncode, result.stdout) == (6, "")
    assert "not used" in result.stderr
    assert not (tmp_path / "out").exists()


DEB822 = """\
# the archive of the distribution
Types: deb deb-src
URIs: http://debian.example/debian
# a comment inside
Suites: bookworm bookworm-updates
Components: main contrib
Trusted: yes
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 key

Types: deb
URIs: http://debian.example/security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://third.example/apt
Suites: nodistro
Components: main
"""

ONE_LINE = """\
deb-src http://debian.example/source bookworm main
deb [arch=amd64 trusted=yes signed-by=/usr/share/keyrings/k.gpg]  http://debian.example/a  trixie contrib main # x
deb http://debian.example/b stable main
deb http://debian.example/c bookworm-updates main
deb http://debian.example/d bookworm contrib
# deb http://debian.example/e bookworm main
deb http://third.example/f nodistro main
"""


@pytest.mark.skipif(shutil.which("apt-config") is None, reason="no apt here")
def test_only_debians_main_archive_is_asked_with_its_key_and_the_older_suite(tmp_path, path):
    """Run with an apt-get that only keeps what it was given."""
    etc = tmp_path / "etc"
    (etc / "parts").mkdir(parents=True)
    (etc / "sources.list").write_text(ONE_LINE)
    (etc / "parts" / "debian.sources").write_text(DEB822)
    conf = tmp_path / "apt.conf"
    conf.write_text(
        f'Dir::Etc::sourcelist "{etc}/sources.list";\nDir::Etc::sourceparts "{etc}/parts";\n'
    )
    seen = tmp_path / "seen"
    (Path(path) / "apt-get").unlink()
    fake(
        Path(path) / "apt-get",
        '#!/bin/bash\nfor word; do [[ $word == Dir::Etc::sourceparts=* ]] && cp -r "${word#*=}" '
        f'"{seen}"; done; echo "$@" >>"{tmp_path}/words"; exit 100\n',
    )
    result = run(tmp_path / "out", path, CONSUL_SOURCES="apt", APT_CONFIG=str(conf))
    assert result.returncode == 6
    assert (seen / "machine.sources").read_text() == (
        "Types: deb\nSuites: bullseye\nComponents: main\n"
        "URIs: http://debian.example/debian\n"
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n key\n\n"
    )
    lines = (seen / "machine.list").read_text().split("\n")
    assert [" ".join(line.split()) for line in lines if line] == [
        "deb [arch=amd64 signed-by=/usr/share/keyrings/k.gpg] http://debian.example/a bullseye main",
        "deb http://debian.example/b bullseye main",
    ]
    words = (tmp_path / "words").read_text()
    assert "AllowUnauthenticated=false" in words
    assert "download consul=1.8.7+dfsg1-2*" in words


@pytest.mark.skipif(shutil.which("apt-config") is None, reason="no apt here")
def test_a_machine_without_debians_archive_is_told_so(tmp_path, path):
    conf = tmp_path / "apt.conf"
    conf.write_text(
        f'Dir::Etc::sourcelist "{tmp_path}/none";\nDir::Etc::sourceparts "{tmp_path}/none.d";\n'
    )
    result = run(tmp_path / "out", path, CONSUL_SOURCES="apt", APT_CONFIG=str(conf))
    assert result.returncode == 6
    assert "none of the apt sources" in result.stderr
