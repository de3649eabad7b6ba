"""What a host says of itself."""

from __future__ import annotations

from lictor.core.probes.host_facts import host_facts


def test_cores_and_memory_are_numbers_and_without_a_driver_nothing_is_said_of_gpus(tmp_path):
    facts = host_facts(tmp_path / "none")
    assert facts["cpus"] >= 1
    assert facts["memory_mb"] > 64
    assert facts["host"]
    assert facts["gpus"] is None


def test_gpus_are_those_that_the_driver_lists(tmp_path):
    for slot, text in (
        ("0000:01:00.0", "Model: \t\t NVIDIA A100-SXM4-40GB\nIRQ:   52\n"),
        ("0000:02:00.0", "no such line"),
    ):
        folder = tmp_path / slot
        folder.mkdir()
        (folder / "information").write_text(text)
    assert host_facts(tmp_path)["gpus"] == ["NVIDIA A100-SXM4-40GB", "?"]
