"""A model server's face: a health URL, and counters that a test sets in a file.

`counting.py PORT FILE`. The file holds two words: requests in flight, and `works`, `stuck` or `deaf`:
tokens come; none comes and the health URL answers all the same; tokens come and it does not.
`FILE.asked` gets a line for each look at the counters.
"""

from __future__ import annotations

import itertools
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOKENS = itertools.count(1)


class Face(BaseHTTPRequestHandler):
    done = 0

    def do_GET(self) -> None:
        running, mood = Path(sys.argv[2]).read_text(encoding="utf-8").split()
        if self.path == "/metrics":
            if mood != "stuck":
                Face.done = next(TOKENS)
            body = (
                f"vllm:num_requests_running {running}\nvllm:generation_tokens_total {Face.done}\n"
            )
        else:
            if mood == "deaf":
                time.sleep(5)
            body = "well"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body.encode())
        if self.path == "/metrics":
            with Path(sys.argv[2] + ".asked").open("a", encoding="utf-8") as asked:
                asked.write("asked\n")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Face).serve_forever()
