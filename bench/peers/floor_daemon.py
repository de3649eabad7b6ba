"""The floor: the least that a supervisor in Python has to do, and nothing else.

One thread, posix_spawn, a pidfd for each service, epoll. It restarts whatever ends, at once; no log,
no state, no status. Run as `python -S -E floor_daemon.py FILE`: one service a line, words by tabs.
"""

import os
import select
import signal
import sys


def spawn(argv: list[str]) -> int:
    null = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1, 2)]
    return os.posix_spawn(argv[0], argv, os.environ, file_actions=null, setsid=True)


def main() -> None:
    with open(sys.argv[1]) as file:  # noqa: PTH123 - the floor imports no pathlib
        commands = [line.rstrip("\n").split("\t") for line in file]
    poll = select.epoll()
    held: dict[int, tuple[int, list[str]]] = {}

    def start(argv: list[str]) -> None:
        pid = spawn(argv)
        fd = os.pidfd_open(pid)
        held[fd] = pid, argv
        poll.register(fd, select.EPOLLIN)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    for argv in commands:
        start(argv)
    try:
        while True:
            for fd, _ in poll.poll():
                _pid, argv = held.pop(fd)
                os.waitid(os.P_PIDFD, fd, os.WEXITED)
                os.close(fd)
                start(argv)
    finally:
        for pid, _ in held.values():
            os.kill(pid, signal.SIGTERM)
        for pid, _ in held.values():
            os.waitpid(pid, 0)


main()
