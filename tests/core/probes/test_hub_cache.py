"""A cache that somebody else filled is read with no trust, counted once, and cleaned safely."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lictor.core.errors import Refused
from lictor.core.model.container import ContainerSpec
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ServiceSpec
from lictor.core.probes import hub_cache
from lictor.core.probes.hub_cache import folder_name, hub_folder, remove, scan, size_of


def put(hub: Path, model: str, size: int = 1000) -> Path:
    """A model as the hub's library lays it down."""
    folder = hub / f"models--{model.replace('/', '--')}"
    blob = folder / "blobs" / "abc"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"x" * size)
    snapshot = folder / "snapshots" / "rev1"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to("../../blobs/abc")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("rev1")
    return folder


def test_each_model_is_listed_with_what_it_takes(tmp_path):
    put(tmp_path, "org/one", 1000)
    put(tmp_path, "Qwen/Qwen2.5-7B-Instruct-AWQ", 5000)
    put(tmp_path, "gpt2", 10)
    (tmp_path / "version.txt").write_text("1")
    (tmp_path / "datasets--x--y").mkdir()
    found = {model.id: model for model in scan(tmp_path)}
    assert set(found) == {"org/one", "Qwen/Qwen2.5-7B-Instruct-AWQ", "gpt2"}
    assert found["org/one"].size == 1004
    assert found["org/one"].complete
    assert found["org/one"].last_used == pytest.approx(
        (tmp_path / "models--org--one" / "blobs" / "abc").stat().st_atime, abs=10
    )
    assert size_of(tmp_path, "org/one") == 1004
    assert scan(tmp_path / "nowhere") == []


def test_a_file_under_many_names_is_counted_once_and_a_link_not_at_all(tmp_path):
    folder = put(tmp_path, "org/one", 1000)
    os.link(folder / "blobs" / "abc", folder / "snapshots" / "rev1" / "again")
    big = tmp_path.parent / "outside"
    big.mkdir()
    (big / "huge").write_bytes(b"x" * 100_000)
    (folder / "snapshots" / "out").symlink_to(big)
    (folder / "blobs" / "loop").symlink_to(folder)
    assert size_of(tmp_path, "org/one") == 1004


def test_what_is_only_half_there_says_so(tmp_path):
    (put(tmp_path, "org/one") / "blobs" / "def.incomplete").write_bytes(b"y" * 500)
    (tmp_path / "models--org--empty" / "blobs").mkdir(parents=True)
    found = {model.id: model for model in scan(tmp_path)}
    assert not found["org/one"].complete
    assert found["org/one"].size == 1504
    assert not found["org/empty"].complete


def test_a_scan_ends_at_a_number_of_entries_and_says_so(tmp_path, monkeypatch):
    put(tmp_path, "org/one")
    put(tmp_path, "org/two")
    monkeypatch.setattr(hub_cache, "MOST_ENTRIES", 12)
    one, two = scan(tmp_path)
    assert (one.partial, two.partial) == (False, True)


def test_removing_takes_the_one_model_and_nothing_else(tmp_path):
    put(tmp_path, "org/one", 1000)
    put(tmp_path, "org/two", 1000)
    (tmp_path / ".locks" / "models--org--one").mkdir(parents=True)
    assert remove(tmp_path, "org/one") == 1004
    assert [model.id for model in scan(tmp_path)] == ["org/two"]
    assert not (tmp_path / ".locks" / "models--org--one").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".locks", "models--org--two"]
    with pytest.raises(Refused, match="is not in"):
        remove(tmp_path, "org/one")


def test_what_links_lead_to_outlives_the_removal(tmp_path):
    hub = tmp_path / "hub"
    folder = put(hub, "org/one")
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("precious")
    (folder / "blobs" / "way-out").symlink_to(kept)
    remove(hub, "org/one")
    assert (kept / "file").read_text() == "precious"


def test_a_link_in_the_place_of_a_model_is_neither_listed_nor_removed(tmp_path):
    hub, kept = tmp_path / "hub", tmp_path / "kept"
    hub.mkdir()
    put(kept, "org/one")
    (hub / "models--org--one").symlink_to(kept / "models--org--one")
    assert scan(hub) == []
    assert size_of(hub, "org/one") == 0
    with pytest.raises(Refused, match="no folder but a link"):
        remove(hub, "org/one")
    assert (kept / "models--org--one").is_dir()


@pytest.mark.parametrize(
    "sly", ["", "..", "../x", "a/../b", "/etc", "a/b/c", "models--x/y\0", "a\nb", ".locks", "a/..b"]
)
def test_no_id_leads_out_of_the_cache(tmp_path, sly):
    put(tmp_path, "org/one")
    with pytest.raises(Refused):
        remove(tmp_path, sly)
    with pytest.raises(Refused):
        folder_name(sly)
    assert [model.id for model in scan(tmp_path)] == ["org/one"]


def test_what_a_killed_agent_had_begun_to_remove_is_finished(tmp_path):
    put(tmp_path, "org/one")
    (tmp_path / "models--org--one").rename(tmp_path / ".lictor-removed-0011")
    assert scan(tmp_path) == []
    hub_cache.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def spec(**fields) -> ServiceSpec:
    return ServiceSpec(key=ServiceKey("vllm"), **fields)


@pytest.mark.parametrize(
    ("env", "folder"),
    [
        ({"HOME": "/home/anna"}, "/home/anna/.cache/huggingface/hub"),
        ({"HOME": "/home/anna", "XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
        ({"HOME": "/home/anna", "HF_HOME": "/mnt/hf"}, "/mnt/hf/hub"),
        ({"HOME": "/home/anna", "HF_HOME": "~/hf"}, "/home/anna/hf/hub"),
        ({"HF_HUB_CACHE": "/mnt/models", "HF_HOME": "/mnt/hf"}, "/mnt/models"),
        ({"HF_HOME": "hf"}, "/srv/hf/hub"),
    ],
)
def test_the_cache_is_where_the_hubs_library_puts_it(env, folder):
    assert hub_folder(spec(env=env, cwd="/srv")) == Path(folder)
    assert hub_folder(spec(env={})) is None


def test_the_cache_of_a_container_is_the_folder_that_is_mounted_there():
    def of(volumes, **env):
        container = ContainerSpec("vllm/vllm-openai:v1", volumes=tuple(volumes))
        return hub_folder(spec(driver="docker", docker=container, env=env))

    home = "/ro" + "ot/.cache"
    assert of([f"/mnt/hf:{home}/huggingface"]) == Path("/mnt/hf/hub")
    assert of(["/a:/data", f"/mnt/c:{home}", f"/mnt/hf:{home}/huggingface:ro"]) == Path(
        "/mnt/hf/hub"
    )
    assert of(["/mnt/models:/models"], HF_HUB_CACHE="/models") == Path("/mnt/models")
    assert of([f"a-volume:{home}/huggingface"]) is None
    assert of([]) is None
