"""Small badly behaved programs, one name each: what services do in real life, on purpose.

    python -S -E child.py NAME [--port N] [--seconds S] [--count N] [--file PATH]

Standard library only, and few modules of it: a child is up in about 20 ms. Every name is a function
of this file whose docstring says what it does. Children end by themselves after five minutes, so a
broken test leaves nothing for ever.
"""

# Printing is what these do, and pathlib alone would double the time they take to come up.
# ruff: noqa: T201, PTH109, PTH110, PTH123, PTH208

import contextlib
import fcntl
import os
import signal
import socket
import sys
import time

LIFETIME = 300


class Options:
    """The command line: `--port`, `--seconds`, `--count`, `--file`."""

    def __init__(self, argv):
        self.port, self.seconds, self.count, self.file = 0, 1.0, 1, None
        kinds = {"port": int, "seconds": float, "count": int, "file": str}
        for name, value in zip(argv[::2], argv[1::2], strict=True):
            setattr(self, name.lstrip("-"), kinds[name.lstrip("-")](value))


def answer(status, body=b"ok\n", extra=b""):
    """One whole HTTP answer."""
    head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n%s\r\n"
    return head % (status, len(body), extra) + body


def listen(port):
    """A listening socket on loopback."""
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", port))
    server.listen(64)
    return server


def serve(port, reply=None, until=None):
    """Answer each connection with `reply`: bytes, a function of the connection, or None for 200."""
    reply = answer(b"200 OK") if reply is None else reply
    with listen(port) as server:
        while until is None or time.monotonic() < until:
            server.settimeout(None if until is None else max(0.01, until - time.monotonic()))
            try:
                connection, _ = server.accept()
            except TimeoutError:
                break
            try:
                connection.settimeout(30)
                connection.recv(65536)
                if callable(reply):
                    reply(connection)
                else:
                    connection.sendall(reply)
            except OSError:
                pass
            finally:
                connection.close()


def rest():
    """Stay, doing nothing. (Alarms are not inherited by forked children, so this has its end.)"""
    time.sleep(LIFETIME)
    os._exit(0)


def work(options):
    """Serve if there is a port to serve on, else just stay."""
    if options.port:
        serve(options.port)
    rest()


def ignore(*numbers):
    """Be deaf to these signals."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def tell(options, text):
    """Append a line to `--file`."""
    if options.file:
        with open(options.file, "a") as file:
            file.write(text + "\n")


def good(options):
    """Well behaved: serves 200, ends with status 0 on TERM."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    print("ready", flush=True)
    work(options)


def ignore_term(options):
    """Only KILL ends it."""
    ignore(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    tell(options, "deaf")
    work(options)


def slow_term(options):
    """Takes `--seconds` to end after TERM, then writes `clean` to `--file`."""

    def leave(*_):
        time.sleep(options.seconds)
        tell(options, "clean")
        os._exit(0)

    signal.signal(signal.SIGTERM, leave)
    tell(options, "up")
    work(options)


def exit_now(options):
    """Ends at once with status `--count`, after a last word."""
    print("giving up: no model at /models", flush=True)
    os._exit(options.count)


def fail_first(options):
    """Exits 1 on its first `--count` runs, counted in `--file`, then is good."""
    tell(options, "run")
    with open(options.file) as file:
        if len(file.readlines()) <= options.count:
            os._exit(1)
    good(options)


def double_fork(options):
    """Daemonises: the started process exits 0, the real one goes on in a new session."""
    if first := os.fork():
        os.waitpid(first, 0)  # as daemons do that wait until the one in the background has begun
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    tell(options, str(os.getpid()))
    work(options)


def grandchildren(options):
    """`--count` children with one child each, all deaf to TERM; TERM ends only the parent."""
    for _ in range(options.count):
        if os.fork() == 0:
            ignore(signal.SIGTERM)
            os.fork()
            tell(options, str(os.getpid()))
            rest()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    work(options)


def escape_group(options):
    """One child leaves the group and the session, is deaf to TERM, and outlives its parent."""
    if os.fork() == 0:
        os.setsid()
        ignore(signal.SIGTERM)
        tell(options, str(os.getpid()))
        rest()
    work(options)


def engine(options):
    """Like an LLM server: the API frees its port when killed, its engine process lives on."""
    if os.fork() == 0:
        ignore(signal.SIGTERM, signal.SIGINT)
        tell(options, str(os.getpid()))
        rest()
    work(options)


def scrubbed(options):
    """A child leaves the session and writes over its environment, as programs with titles do."""
    if os.fork() == 0:
        os.setsid()
        ignore(signal.SIGTERM)
        os.execve(sys.executable, sleeper("tell", options.file or ""), {})
    work(options)


def sleeper(word, path):
    """An argv that says its pid in `path` and stays, deaf to TERM."""
    code = (
        "import os,signal,time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"path={path!r}\n"
        "if path: open(path,'a').write(f'{os.getpid()}\\n')\n"
        f"time.sleep({LIFETIME})"
    )
    return [word, "-S", "-E", "-c", code]


def keep_pipe(options):
    """Exits at once, but a child keeps its standard output open for `--seconds`."""
    if os.fork():
        os._exit(0)
    time.sleep(options.seconds)
    print("late", flush=True)


def zombies(options):
    """Makes `--count` children that exit and are never waited for."""
    for _ in range(options.count):
        if os.fork() == 0:
            os._exit(0)
    tell(options, "made")
    work(options)


def fork_storm(options):
    """Forks `--count` deaf sleepers as fast as it is allowed to, and says how many it has."""
    ignore(signal.SIGTERM)
    time.sleep(options.seconds)
    made = 0
    for _ in range(min(options.count, 2000)):
        try:
            if os.fork() == 0:
                rest()
            made += 1
        except BlockingIOError:
            pass
    tell(options, str(made))
    rest()


def alone(options):
    """Must never run twice: the whole tree holds one lock, and a second tree says `overlap`.

    It has a deaf child in a session of its own, and takes `--seconds` to end after TERM. Lines of
    `--file`: begin or end, pid, and the moment on the clock since boot.
    """
    lock = os.open(options.file + ".lock", os.O_CREAT | os.O_RDWR, 0o600)  # forked with the tree
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        tell(options, f"overlap {os.getpid()}")

    def moment(word):
        tell(options, f"{word} {os.getpid()} {time.clock_gettime(time.CLOCK_BOOTTIME):.6f}")

    def leave(*_):
        time.sleep(options.seconds)
        moment("end")
        os._exit(0)

    moment("begin")
    if os.fork() == 0:
        os.setsid()
        ignore(signal.SIGTERM)
        rest()
    signal.signal(signal.SIGTERM, leave)
    work(options)


def rename(options):
    """Changes its name to one with a bracket, a newline and another pid in it."""
    with open("/proc/self/comm", "w") as file:
        file.write("a) S 1\n2 (b")
    tell(options, "renamed")
    work(options)


def close_port(options):
    """Serves for `--seconds`, or until USR1 comes, then closes the port and stays alive."""

    class Enough(Exception):
        pass

    def enough(*_):
        raise Enough

    signal.signal(signal.SIGUSR1, enough)
    with contextlib.suppress(Enough):
        serve(options.port, until=time.monotonic() + options.seconds)
    rest()


def no_port(_options):
    """Runs and never opens its port."""
    rest()


def slow_start(options):
    """Opens its port only after `--seconds`, or once `--file` is there: a model that loads."""
    if options.file:
        while not os.path.exists(options.file):
            time.sleep(0.02)
    else:
        time.sleep(options.seconds)
    good(options)


def slow_health(options):
    """Answers 200, but each answer takes `--seconds`."""

    def late(connection):
        time.sleep(options.seconds)
        connection.sendall(answer(b"200 OK"))

    serve(options.port, late)


def health_500(options):
    """Answers every request with 500, and a reason phrase full of escapes."""
    serve(options.port, answer(b"500 \x1b[31mevil\x1b[0m"))


def flap_health(options):
    """Changes between 200 and 503 every `--seconds`, beginning with 200."""
    begun = time.monotonic()

    def reply(connection):
        well = int((time.monotonic() - begun) / options.seconds) % 2 == 0
        connection.sendall(answer(b"200 OK" if well else b"503 Service Unavailable"))

    serve(options.port, reply)


def turn_bad(options):
    """Answers 200 for `--seconds`, or until USR1 comes, and 500 from then on."""
    end = time.monotonic() + options.seconds

    def enough(*_):
        nonlocal end
        end = time.monotonic()

    signal.signal(signal.SIGUSR1, enough)

    def reply(connection):
        well = time.monotonic() < end
        connection.sendall(answer(b"200 OK" if well else b"500 Internal Server Error"))

    serve(options.port, reply)


def turn_deaf(options):
    """Answers 200 for `--seconds`, then accepts no connection any more: connects still succeed."""
    server = listen(options.port)
    end = time.monotonic() + options.seconds
    while time.monotonic() < end:
        server.settimeout(max(0.01, end - time.monotonic()))
        try:
            connection, _ = server.accept()
        except TimeoutError:
            break
        connection.recv(65536)
        connection.sendall(answer(b"200 OK"))
        connection.close()
    rest()


def eat_memory(options):
    """Takes `--count` megabytes, 16 at a time, touches them, and keeps them."""
    held = []
    for _ in range(options.count // 16):
        held.append(bytearray(os.urandom(1) * (16 << 20)))
        time.sleep(0.01)
    tell(options, "full")
    work(options)


def hang_accept(options):
    """Listens and never accepts: connects succeed, nothing answers."""
    server = listen(options.port)
    rest()
    server.close()


def half_answer(options):
    """Headers that promise 1000 bytes, then 3 bytes, then nothing."""

    def half(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")
        connection.recv(1)

    serve(options.port, half)


def endless_answer(options):
    """A body without an end: up to `--count` megabytes."""

    def endless(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (options.count << 20))
        for _ in range(options.count * 16):
            connection.sendall(b"x" * 65536)

    serve(options.port, endless)


def redirect_health(options):
    """Answers 302 to the URL in `--file`."""
    to = b"Location: %s\r\n" % (options.file or "/").encode()
    serve(options.port, answer(b"302 Found", extra=to))


def flood_stdout(options):
    """Writes `--count` megabytes of lines as fast as possible, then stays."""
    block = (b"x" * 99 + b"\n") * 10240
    left = options.count << 20
    while left > 0:
        left -= os.write(1, block[:left])
    tell(options, "flooded")
    work(options)


def bad_bytes(options):
    """Prints escapes, NUL, broken UTF-8, a lone CR, bidi marks and a forged event; then stays."""
    lines = [
        b"\x1b]0;owned\x07\x1b[31mred\x1b[0m",
        b"\x00nul \xff\xfe broken \xc3",
        "\u202egnp.exe \u2066hidden\u2069 \u009b31m".encode(),
        b"progress 10%\rprogress 99%",
        b"<script>alert(1)</script>",
        b"data: x",
        b"",
        b"event: forged",
    ]
    os.write(1, b"\n".join(lines) + b"\n")
    tell(options, "printed")
    work(options)


def stop_self(options):
    """Freezes itself after `--seconds`: alive, port open, no answer."""
    server = listen(options.port) if options.port else None
    time.sleep(options.seconds)
    tell(options, "frozen")
    os.kill(os.getpid(), signal.SIGSTOP)
    rest()
    if server:
        server.close()


def whoami(options):
    """Writes what it runs as to `--file` (`-`: standard output), then stays."""
    facts = [
        f"uid={os.getuid()} gid={os.getgid()} groups={sorted(os.getgroups())}",
        f"cwd={os.getcwd()} umask={os.umask(0):o} sid={os.getsid(0) == os.getpid()}",
        *(f"env {name}={value}" for name, value in sorted(os.environ.items())),
        *(f"fd {fd}" for fd in os.listdir("/proc/self/fd")),
        "end",
    ]
    print("\n".join(facts), flush=True)
    work(options)


def main():
    """Run the child that the first argument names."""
    signal.alarm(LIFETIME)
    run = globals()[sys.argv[1].replace("-", "_")]
    run(Options(sys.argv[2:]))


if __name__ == "__main__":
    main()
