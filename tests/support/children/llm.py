"""A server that behaves like vLLM while it loads, and can be made to fail as it does.

    python llm.py --port N --model ORG/NAME --folder DIR [--seconds S]

It prints vLLM's own lines (a progress bar that rewrites its line with a carriage return included),
fetches the model into $HF_HOME/hub, binds its port late, answers 503 and then 200, and lists its
model under /v1/models. A model whose name holds `bad` dies half way, `stuck` never gets ready, and
`halfway` stops at half until the file `DIR/go` is there. Two at a time write `doubled` into the
folder. Standard library only; it ends by itself after five minutes.
"""

# ruff: noqa: T201 - printing is what it does

import argparse
import fcntl
import http.server
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

LIFETIME = 300

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--model", required=True)
parser.add_argument("--folder", type=Path, required=True)
parser.add_argument("--seconds", type=float, default=0.4)
OPTIONS = parser.parse_args()

ready = threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b""
        if self.path == "/v1/models":
            body = json.dumps({"object": "list", "data": [{"id": OPTIONS.model}]}).encode()
        self.send_response(200 if ready.is_set() else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def only_one():
    """Hold the card: a second one that runs beside the first is what must never be."""
    lock = (OPTIONS.folder / "card").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        (OPTIONS.folder / "doubled").write_text(OPTIONS.model)
    with (OPTIONS.folder / "started").open("a") as started:
        started.write(f"{OPTIONS.model}\n")
    return lock


def fetch():
    """Bring the model into the cache as the hub's library does: half a file, then a link to it."""
    place = Path(os.environ["HF_HOME"]) / "hub" / f"models--{OPTIONS.model.replace('/', '--')}"
    blobs, snapshot = place / "blobs", place / "snapshots" / "0123abcd"
    if snapshot.exists():
        return
    blobs.mkdir(parents=True, exist_ok=True)
    half = blobs / "feed.incomplete"
    with half.open("wb") as file:
        for _ in range(4):
            file.write(b"w" * 50_000)
            file.flush()
            time.sleep(OPTIONS.seconds / 8)
    half.rename(blobs / "feed")
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to("../../blobs/feed")


def pause(name):
    """Stop where the model's name says so."""
    while "stuck" in name or ("halfway" in name and not (OPTIONS.folder / "go").exists()):
        time.sleep(0.05)


def load(server):
    print(f"INFO 11-21 17:00:00 Initializing a V1 LLM engine with model={OPTIONS.model!r}")
    fetch()
    print("INFO 11-21 17:00:01 Starting to load model", OPTIONS.model, flush=True)
    bar = "Loading safetensors checkpoint shards: {:3d}% Completed | {}/4"
    for number in range(5):
        sys.stderr.write("\r" + bar.format(25 * number, number))
        sys.stderr.flush()
        time.sleep(OPTIONS.seconds / 5)
        if number == 2:
            if "bad" in OPTIONS.model:
                print("\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 9.00 GiB")
                sys.stdout.flush()
                os._exit(1)
            pause(OPTIONS.model)
    print("\nINFO Model loading took 5.2 GiB", flush=True)
    print("INFO Graph capturing finished in 9 secs", flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    time.sleep(OPTIONS.seconds / 5)
    print("INFO: Application startup complete.", flush=True)
    ready.set()


def main():
    held = only_one()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", OPTIONS.port), Handler)
    load(server)
    time.sleep(LIFETIME)
    held.close()


main()
