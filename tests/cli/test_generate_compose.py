"""`lictor generate compose`: what the docker driver would ask for, for machines without Lictor."""

from __future__ import annotations

import yaml

CONFIG = """\
services:
  redis: {driver: docker, port: 6379, docker: {image: "redis:7", ports: ["6379:6379"]}}
  vllm:
    driver: docker
    command: [--model, "{param.model}", --note, "costs $$5"]
    depends_on: [redis, hello]
    docker: {image: "v:1", name: ai-vllm, network: ai-secretary, volumes: ["hf:/cache", "./d:/d:ro"], init: false}
    env: {HF_TOKEN: very-secret}
    limits: {memory: 2GiB, cpu: 1.5}
    restart: {policy: never}
    stop: {timeout: 30s}
    gpu: {devices: [GPU-1]}
    params: {model: {default: a/b}}
  hello: {command: [echo, hello]}
"""


def test_what_is_a_container_is_there_and_what_is_not_is_named(run, home):
    path = home / "config.yml"
    path.write_text(CONFIG)
    done = run("generate", "compose", "-c", str(path))
    assert done.returncode == 0, done.stderr
    assert "hello" in done.stderr
    assert "very-secret" not in done.stdout
    whole = yaml.safe_load(done.stdout)
    assert set(whole["services"]) == {"redis", "vllm"}
    assert whole["services"]["redis"] == {
        "image": "redis:7",
        "ports": ["127.0.0.1:6379:6379"],
        "init": True,
        "restart": "always",
        "stop_signal": "SIGTERM",
        "stop_grace_period": "10s",
    }
    vllm = whole["services"]["vllm"]
    assert vllm["command"] == ["--model", "a/b", "--note", "costs $$5"]
    assert vllm["environment"] == {"HF_TOKEN": "${HF_TOKEN}"}
    assert (vllm["mem_limit"], vllm["cpus"], vllm["restart"]) == (2 << 30, 1.5, "no")
    assert (vllm["container_name"], vllm["networks"]) == ("ai-vllm", ["ai-secretary"])
    assert vllm["volumes"] == ["hf:/cache", f"{home}/d:/d:ro"]
    assert (vllm["depends_on"], vllm["init"], vllm["stop_grace_period"]) == (
        ["redis"],
        False,
        "30s",
    )
    (devices,) = vllm["deploy"]["resources"]["reservations"]["devices"]
    assert devices["device_ids"] == ["GPU-1"]
    assert whole["networks"] == {"ai-secretary": {"name": "ai-secretary"}}
    assert whole["volumes"] == {"hf": {"name": "hf"}}


def test_a_config_without_containers_gives_an_empty_file(run, home):
    path = home / "config.yml"
    path.write_text("services: {hello: {command: [echo]}}\n")
    done = run("generate", "compose", "-c", str(path))
    assert done.returncode == 0
    assert yaml.safe_load(done.stdout) == {"services": {}}
