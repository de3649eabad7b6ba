"""A small service that writes down when it came up and when it was told to go.

    python -S -E diary.py NAME DIARY PORT [key=value ...]

`delay=S` opens the port S seconds late, `leave=S` takes S seconds after TERM, `told=FILE` notes there
when TERM came (monotonic seconds), `asked=FILE` gets a line for each question of Consul, `unless=FILE`
ends at once with status 3 if the file is there. Other words are only there to be seen in its command
line.
It ends by itself after five minutes, so a broken test leaves nothing for ever.
"""

# ruff: noqa: T201, PTH110, PTH123

import os
import signal
import socket
import sys
import time

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"


def main():
    name, diary, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    options = dict(word.split("=", 1) for word in sys.argv[4:] if "=" in word)
    signal.alarm(300)

    def write(word):
        with open(diary, "a") as file:
            file.write(f"{word} {name}\n")

    def leave(*_):
        told = time.monotonic()
        write("down")
        if "told" in options:
            with open(options["told"], "w") as file:
                file.write(f"{told}\n")
        time.sleep(float(options.get("leave", 0)))
        write("gone")
        os._exit(0)

    signal.signal(signal.SIGTERM, leave)
    write("up")
    print(f"{name} begins", flush=True)
    if "unless" in options and os.path.exists(options["unless"]):
        print("cannot load: the weights are gone", flush=True)
        os._exit(3)
    time.sleep(float(options.get("delay", 0)))
    serve(port, lambda: write("open"), options.get("asked"))


def serve(port, opened, asked):
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", port))
    server.listen(64)
    opened()
    while True:
        connection, _ = server.accept()
        with connection:
            connection.settimeout(5)
            try:
                question = connection.recv(65536)
                if question:
                    connection.sendall(ANSWER)
            except OSError:
                continue
        if asked and b"Consul Health Check" in question:
            with open(asked, "a") as file:
                file.write("asked\n")


if __name__ == "__main__":
    main()
