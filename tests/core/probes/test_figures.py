"""Figures of model servers, in the words in which they tell them."""

from __future__ import annotations

import asyncio

import pytest

from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ServiceSpec
from lictor.core.planning.progress import Work
from lictor.core.probes.figures import RUNNING, total, work

VLLM = b"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a"} 2.0
vllm:num_requests_running{engine="1",model_name="a"} 1.0
vllm:num_requests_waiting{engine="0",model_name="a"} 5.0
vllm:prompt_tokens_total{engine="0",model_name="a"} 1.5e+03
vllm:generation_tokens_total{engine="0",model_name="a"} 40.0
"""
LLAMA = b"llamacpp:requests_processing 1\nllamacpp:tokens_predicted_total 7\n"


def test_series_of_one_name_are_added_up():
    assert total(VLLM, RUNNING) == 3
    assert total(b"other 1\n", RUNNING) is None


@pytest.mark.parametrize(
    ("body", "found"),
    [(VLLM, Work(3, 1540)), (LLAMA, Work(1, 7)), (b"up 1\n", None), (b"\xff{", None)],
)
async def test_what_a_server_tells_over_http(body, found):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + body)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        spec = ServiceSpec(key=ServiceKey("a"), port=port, later={"metrics": "/metrics"})
        assert await work(spec) == found
    assert await work(spec) is None  # nobody there


async def test_who_tells_no_figures_is_not_asked():
    assert await work(ServiceSpec(key=ServiceKey("a"), port=1)) is None
