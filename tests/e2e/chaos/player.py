"""A small service that says in `FOLDER/marks` that it began, and can be made sick.

    python -S -E player.py NAME FOLDER PORT [words that are only there to be seen]

It holds `FOLDER/NAME.lock` while it lives; a second one beside it says `twice` instead of `began`.
While `FOLDER/NAME.sick` is there, it answers 500. With port 0 it serves nothing. It ends by itself
after a quarter of an hour, so a broken test leaves nothing for ever.
"""

# ruff: noqa: PTH110, PTH123

import fcntl
import os
import signal
import socket
import sys

ANSWER = b"HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def main():
    name, folder, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    signal.alarm(900)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    lock = os.open(f"{folder}/{name}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        word = "began"
    except BlockingIOError:
        word = "twice"
    with open(f"{folder}/marks", "a") as marks:
        marks.write(f"{word} {name} {os.getpid()}\n")
    if port:
        serve(port, f"{folder}/{name}.sick")
    while True:
        signal.pause()


def serve(port, sick):
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", port))
    server.listen(64)
    while True:
        connection, _ = server.accept()
        with connection:
            connection.settimeout(5)
            try:
                connection.recv(65536)
                status = b"500 Sick" if os.path.exists(sick) else b"200 OK"
                connection.sendall(ANSWER % status)
            except OSError:
                continue


if __name__ == "__main__":
    main()
