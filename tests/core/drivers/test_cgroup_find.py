"""Where cgroups may be made: only where somebody gave them to us."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lictor.core.drivers.cgroup_find import Mount, _Host, discover, mounts, own_paths

HYBRID = r"""
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime shared:9 - cgroup cgroup rw,pids
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 /docker/1 /sys/fs/cgroup/a\040b rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""


def test_the_table_of_mounts_is_read():
    found = mounts(HYBRID)
    assert [str(mount.point) for mount in found] == [
        "/sys/fs/cgroup/pids",
        "/sys/fs/cgroup/cpu,cpuacct",
        "/sys/fs/cgroup/a b",
        "/sys/fs/cgroup/unified",
    ]
    assert {"cpu", "cpuacct"} < found[1].controllers
    assert found[2].root == "/docker/1"
    assert [mount.unified for mount in found] == [False, False, False, True]


def test_the_own_paths_are_read():
    text = "8:pids:/\n2:cpu,cpuacct:/a:b\n9:name=systemd:/user.slice\n0::/system.slice/x\n"
    assert own_paths(text) == {
        "pids": "/",
        "cpu": "/a:b",
        "cpuacct": "/a:b",
        "name=systemd": "/user.slice",
        "": "/system.slice/x",
    }


@pytest.fixture
def unit(tmp_path: Path):
    """A folder that looks like the cgroup of a unit, and its delegation."""
    folder = tmp_path / "system.slice" / "lictor.service"
    (folder / "agent").mkdir(parents=True)
    (folder / "cgroup.controllers").write_text("memory pids\n")

    def delegate() -> None:
        try:
            os.setxattr(folder, "user.delegate", b"1")
        except OSError:
            pytest.skip("no extended attributes here")

    return folder, delegate


def test_a_unit_that_was_not_delegated_is_systemds(unit, tmp_path):
    host = _Host({"": "/system.slice/lictor.service"}, systemd=True)
    found = host.ground([Mount(tmp_path, "/", frozenset(), unified=True)], None)
    assert (found.version, found.why.code) == (0, "cgroup.not_ours")


def test_a_delegated_unit_is_ours(unit, tmp_path):
    folder, delegate = unit
    delegate()
    host = _Host({"": "/system.slice/lictor.service"}, systemd=True)
    found = host.ground([Mount(tmp_path, "/", frozenset(), unified=True)], None)
    assert (found.version, found.base, found.name) == (2, folder, "cgroup v2")
    assert found.path == "/system.slice/lictor.service"
    assert sorted(found.limits) == ["memory", "pids"]


def test_an_agent_in_a_subgroup_builds_beside_itself(unit, tmp_path):
    folder, delegate = unit
    delegate()
    host = _Host({"": "/system.slice/lictor.service/agent"}, systemd=True)
    found = host.ground([Mount(tmp_path, "/", frozenset(), unified=True)], None)
    assert (found.base, found.path) == (folder, "/system.slice/lictor.service")


def test_a_deep_cgroup_of_somebody_else_is_not_roots_to_use_without_systemd_either(tmp_path):
    (tmp_path / "engine" / "1").mkdir(parents=True)
    host = _Host({"pids": "/engine/1", "memory": "/engine/1"}, systemd=False)
    table = [Mount(tmp_path, "/", frozenset({"pids"}), unified=False)]
    assert host.ground(table, None).version == (0 if os.geteuid() == 0 else 1)


def test_the_root_that_a_container_sees_is_its_own(tmp_path):
    host = _Host({"pids": "/engine/1"}, systemd=False)
    table = [Mount(tmp_path, "/engine/1", frozenset({"pids"}), unified=False)]
    found = host.ground(table, None)
    assert (found.version, found.base, found.name) == (1, tmp_path, "cgroup v1")


def test_v1_is_preferred_for_being_born_in_it_where_both_are(tmp_path):
    for name in ("pids", "unified"):
        (tmp_path / name).mkdir()
    table = [
        Mount(tmp_path / "pids", "/", frozenset({"pids"}), unified=False),
        Mount(tmp_path / "unified", "/", frozenset(), unified=True),
    ]
    host = _Host({"pids": "/", "": "/"}, systemd=False)
    assert host.ground(table, None).name == "cgroup v1"
    assert host.ground(table, 2).name == "cgroup v2 (hybrid)"
    assert host.ground(table[:1], 2).version == 0
    assert host.ground(table[1:], 1).version == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_a_plain_user_gets_none_and_is_told_so():
    os.seteuid(65534)
    try:
        found = discover()
    finally:
        os.seteuid(0)
    assert found.version == 0
    assert found.name == "group, session, mark"
    assert found.why.code in {"cgroup.not_ours", "cgroup.none"}
