"""llama.cpp's own HTTP server for one model: llm_server.py MODEL.gguf NAME HOST PORT.

`lictor install llm` copies it beside the environment that has xllamacpp, which brings the server as
a library and no program. It is not a part of Lictor's own process and imports nothing of it.
"""

import os
import signal
import sys

import xllamacpp

model, name, host, port = sys.argv[1:]
params = xllamacpp.CommonParams()
params.model.path = model
params.model_alias = {name}
params.hostnames = [host]
params.port = int(port)
params.n_ctx, params.n_parallel = 2048, 1
params.cpuparams.n_threads = min(os.cpu_count() or 1, 4)
params.endpoint_metrics = True
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
server = xllamacpp.Server(params)
signal.sigwait({signal.SIGTERM, signal.SIGINT})
os._exit(0)  # its threads have nothing to write, and joining them takes seconds
