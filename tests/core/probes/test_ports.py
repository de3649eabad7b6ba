"""Who holds a port, told from real sockets."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from lictor.core.probes import ports
from lictor.core.probes.ports import port_holder, port_taken


@pytest.mark.parametrize(
    ("bound", "asked", "taken"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "localhost", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("127.0.0.1", "", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "::1", False),
        ("127.0.0.1", "some-name", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("0.0.0.0", "::", True),
        ("::", "127.0.0.1", True),
        ("::1", "[::1]", True),
        ("::1", "127.0.0.1", False),
        ("::ffff:127.0.0.1", "127.0.0.1", True),
        ("::ffff:127.0.0.1", "127.0.0.2", False),
    ],
)
def test_a_listener_takes_the_port_for_every_address_it_covers(bound, asked, taken):
    family = socket.AF_INET6 if ":" in bound else socket.AF_INET
    with socket.socket(family) as listener:
        try:
            listener.bind((bound, 0))
        except OSError:
            pytest.skip("no such address on this host")
        port = listener.getsockname()[1]
        assert not port_taken(asked, port)
        listener.listen()
        assert port_taken(asked, port) is taken
    assert not port_taken(asked, port)


def test_the_holder_of_a_port_is_named():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        pid, name = port_holder("127.0.0.1", port)
        assert pid == os.getpid()
        assert name == Path("/proc/self/comm").read_text().strip()
    assert port_holder("127.0.0.1", port) is None


def test_a_connection_that_lingers_takes_no_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        near = socket.create_connection(("127.0.0.1", port))
        far, _ = listener.accept()
    far.close()  # the listener's side closes first and lingers in TIME_WAIT
    near.close()
    assert not port_taken("127.0.0.1", port)


def test_both_ways_of_asking_the_kernel_tell_the_same():
    with socket.socket() as four, socket.socket(socket.AF_INET6) as six:
        four.bind(("127.0.0.1", 0))
        four.listen()
        families = [(socket.AF_INET, "tcp", four)]
        try:
            six.bind(("::1", 0))
            six.listen()
            families.append((socket.AF_INET6, "tcp6", six))
        except OSError:
            pass  # a host without IPv6
        for family, name, listener in families:
            address, port = listener.getsockname()[:2]
            inode = os.fstat(listener.fileno()).st_ino
            for found in (ports._diag(family, 10), ports._table(name, 10)):
                ours = [one for one in found if one.port == port]
                assert [(str(one.address), one.inode) for one in ours] == [(address, inode)]


def test_a_host_without_netlink_is_read_from_proc(monkeypatch):
    def refused(_family, _state):
        raise PermissionError

    monkeypatch.setattr(ports, "_diag", refused)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert port_taken("127.0.0.1", listener.getsockname()[1])


@pytest.mark.parametrize("how", ["by the kernel's answer", "from its table"])
def test_open_connections_are_counted_and_listeners_are_none(monkeypatch, how):
    if how == "from its table":

        def refused(_family, _state):
            raise PermissionError

        monkeypatch.setattr(ports, "_diag", refused)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert ports.connections([port]) == {port: 0}
        # (bound: a number that `connect` chose may be another connection's as well)
        bound = ("127.0.0.1", 0)
        with socket.create_connection(("127.0.0.1", port), source_address=bound) as near:
            far, _ = listener.accept()
            with far:
                mine = near.getsockname()[1]
                assert ports.connections([port, mine]) == {port: 1, mine: 1}
