"""What `lictor doctor` says of folders and ports, on real ones."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lictor.core.model.finding import Level
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ServiceSpec
from lictor.core.runtime.host import checkup
from lictor.core.runtime.host.checkup import examine_data_dir, examine_ports, examine_web
from tests.support.children import child, eventually, free_port


def spec(port: int | None, **fields: object) -> ServiceSpec:
    return ServiceSpec(ServiceKey("piper"), port=port, **fields)


@contextmanager
def listening() -> Iterator[int]:
    """A port that this very process listens on."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def look(port: int | None, agent_id: str | None = "agent", **fields: object):
    return examine_ports([spec(port, **fields)], agent_id)


def test_a_service_without_a_port_has_none_to_be_looked_at():
    assert look(None) == []


def test_a_free_port_is_well():
    (found,) = look(free_port())
    assert (found.level, found.reason.code) == (Level.OK, "doctor.port_free")
    assert found.subject == "piper"


def test_a_port_that_somebody_else_holds_names_the_program_and_its_pid():
    with listening() as port:
        (found,) = look(port)
    assert (found.level, found.reason.code) == (Level.FAIL, "start.port_taken")
    assert found.reason.params["pid"] == os.getpid()
    assert found.step is not None


@pytest.mark.parametrize(
    ("mark", "code"),
    [
        ("agent:piper", "doctor.port_own"),
        ("agent:other", "start.port_taken"),
        ("stranger:piper", "start.port_taken"),
    ],
)
async def test_a_port_is_the_services_own_only_with_this_agents_mark_for_it(mark, code):
    port = free_port()
    process = subprocess.Popen(
        child("good", port=port), env={"PATH": os.environ["PATH"], "LICTOR_MARK": mark}
    )
    try:
        await eventually(lambda: look(port)[0].reason.code != "doctor.port_free")
        (found,) = look(port)
        assert found.reason.code == code
        assert found.reason.params["pid"] == process.pid
        assert look(port, None)[0].reason.code == "start.port_taken"
    finally:
        process.kill()
        process.wait()


def test_an_observed_service_should_be_listening():
    with listening() as port:
        (found,) = look(port, driver="observed")
        assert (found.level, found.reason.code) == (Level.OK, "doctor.port_answers")
    (found,) = look(port, driver="observed")
    assert (found.level, found.reason.code) == (Level.WARN, "doctor.port_silent")


def test_the_port_of_the_web_is_the_agents_or_nobodys():
    assert examine_web("127.0.0.1", 0, None) == []
    assert examine_web("127.0.0.1", free_port(), None) == []
    with listening() as port:
        assert examine_web("127.0.0.1", port, os.getpid()) == []
        (found,) = examine_web("127.0.0.1", port, None)
        assert (found.level, found.reason.code) == (Level.FAIL, "start.port_taken")
        (found,) = examine_web("127.0.0.1", port, os.getpid() + 1)
        assert found.level is Level.FAIL


def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path):
    found = examine_data_dir(tmp_path)
    assert (found.level, found.reason.code) == (Level.OK, "doctor.data_dir_ok")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_not_made(tmp_path):
    found = examine_data_dir(tmp_path / "a" / "b")
    assert (found.level, found.reason.code) == (Level.OK, "doctor.data_dir_new")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_folder_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    found = examine_data_dir(tmp_path / "file")
    assert (found.level, found.reason.code) == (Level.FAIL, "doctor.data_dir_bad")
    assert found.step is not None


def test_a_folder_of_the_kernel_cannot_be_written():
    assert examine_data_dir(Path("/proc/self")).level is Level.FAIL


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_a_warning_to_root_and_a_failure_to_others(tmp_path):
    os.chown(tmp_path, 1, 1)
    tmp_path.chmod(0o700)
    found = examine_data_dir(tmp_path)
    assert (found.level, found.reason.code) == (Level.WARN, "doctor.data_dir_owner")


def test_a_disk_that_is_nearly_full_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(checkup, "_SCARCE", sys.maxsize)
    found = examine_data_dir(tmp_path)
    assert (found.level, found.reason.code) == (Level.WARN, "doctor.disk_full")
