"""Fake GPU services, which take and give memory of the cards of `tests/support/nvml`.

    python -S -E gpu.py KIND --state FILE --memory BYTES --port N [--seconds S] [--log FILE]

They use the card that CUDA_VISIBLE_DEVICES names, as a real program would, and end with status 1 and the
words "CUDA out of memory" when it has not so much free. KIND is

    voice     loads for S seconds, taking more and more, then answers; `GET /work?s=2` takes two seconds
    leaky     the same, but what it had stays taken when it is gone
    vllm      an API server and an engine: the engine is a child in a session of its own which holds the
              memory and outlives its parent; the port opens late, `/health` answers 503 and then 200,
              `/v1/models`, `/v1/chat/completions` as a stream, `/metrics` with vLLM's own names

Standard library only. They end by themselves after five minutes.
"""

# Printing is what these do; see child.py.
# ruff: noqa: T201, PTH118, PTH120, PTH100

import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

sys.path.insert(
    0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "nvml")
)
from state import Cards

LIFETIME = 300


class Service:
    """What all kinds share: the options, the card, the server."""

    def __init__(self, kind, argv):
        given = dict(zip(argv[::2], argv[1::2], strict=True))
        self.kind = kind
        self.cards = Cards(given["--state"])
        self.memory = int(given["--memory"])
        self.port = int(given["--port"])
        self.seconds = float(given.get("--seconds", 0.2))
        self.loaded = threading.Event()
        self.requests = 0

    @property
    def card(self):
        """The one card that it was given."""
        (uuid,) = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
        assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
        return uuid

    def load(self):
        """Take the memory in four steps."""
        for step in range(1, 5):
            if not self.cards.take(os.getpid(), self.card, self.memory * step // 4):
                print("CUDA out of memory", flush=True)
                os._exit(1)
            time.sleep(self.seconds / 4)
        self.loaded.set()
        print("loaded on", self.card, flush=True)

    def serve(self):
        """Answer until the end."""
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                service.answer(self)

            def do_POST(self):
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                service.answer(self)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        server.daemon_threads = True
        server.serve_forever()

    def answer(self, request):
        """One request; `?s=2` works for two seconds."""
        url = urlsplit(request.path)
        seconds = float(parse_qs(url.query).get("s", ["0"])[0])
        if url.path == "/metrics":
            text = f'vllm:num_requests_running{{model_name="m"}} {float(self.requests)}\n'
            text += 'vllm:num_requests_waiting{model_name="m"} 0.0\n'
            return reply(request, 200, text)
        if not self.loaded.is_set():
            return reply(request, 503, "")
        if url.path == "/v1/models":
            return reply(request, 200, '{"data": [{"id": "m"}]}')
        self.requests += 1
        try:
            if url.path == "/v1/chat/completions":
                return stream(request, seconds)
            time.sleep(seconds)
            return reply(request, 200, "ok\n")
        finally:
            self.requests -= 1


def reply(request, status, text):
    """One whole answer."""
    body = text.encode()
    request.send_response(status)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def stream(request, seconds):
    """Events until the time is over."""
    request.send_response(200)
    request.send_header("Content-Type", "text/event-stream")
    request.end_headers()
    until = time.monotonic() + seconds
    while True:
        request.wfile.write(b'data: {"choices": [{"delta": {"content": "word "}}]}\n\n')
        request.wfile.flush()
        if time.monotonic() >= until:
            break
        time.sleep(0.1)
    request.wfile.write(b"data: [DONE]\n\n")


def engine(service):
    """The process that holds the memory: it lives in a session of its own, whoever dies."""
    os.setsid()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    service.load()
    time.sleep(LIFETIME)
    os._exit(0)


def main():
    """Load and serve."""
    service = Service(sys.argv[1], sys.argv[2:])
    threading.Timer(LIFETIME, lambda: os._exit(0)).start()
    if service.kind == "vllm":
        child = os.fork()
        if child == 0:
            engine(service)
        signal.signal(signal.SIGTERM, lambda *_: (os.kill(child, signal.SIGTERM), os._exit(0)))
        time.sleep(service.seconds / 2)  # the port opens late

        def loaded():
            time.sleep(service.seconds)
            service.loaded.set()

        threading.Thread(target=loaded, daemon=True).start()
    else:
        if service.kind == "leaky":

            def leave(*_):
                service.cards.leak(os.getpid())
                os._exit(0)

            signal.signal(signal.SIGTERM, leave)
        service.load()
    service.serve()


main()
