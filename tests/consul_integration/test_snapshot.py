"""Which key is about what."""

from lictor.consul_integration.client import KvItem
from lictor.consul_integration.memory import Remembered
from lictor.consul_integration.snapshot import read_tree, remember, sort_keys
from lictor.core.model.desired import DesiredState
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ParamSpec

DEFINED = {
    ServiceKey("piper"): {"speed": ParamSpec(1.0)},
    ServiceKey("piper", "a"): {"speed": ParamSpec(1.0)},
    ServiceKey("gpt-sovits"): {},
}
BASE = "lictor/desired/"
STOPPED = b'{"state": "stopped"}'


def tree(**keys):
    items = [KvItem(f"{BASE}{key}", value, 7) for key, value in keys.items()]
    return sort_keys(items, base=BASE, node="host1")


def snapshot(before=None, **keys):
    return read_tree(tree(**keys), DEFINED.get, before or Remembered(), 9)


def test_only_this_nodes_keys_and_those_for_all_nodes_count():
    found = snapshot(
        **{
            "host1/piper": STOPPED,
            "_all/piper": b'{"state": "running"}',
            "host2/piper": b"{",
            "host11/piper": b"{",
            "piper": STOPPED,
        }
    )
    assert found.node[ServiceKey("piper")].override.state is DesiredState.STOPPED
    assert found.all_nodes[ServiceKey("piper")].override.state is DesiredState.RUNNING
    assert (len(found.node), len(found.all_nodes), found.strays, found.index) == (1, 1, {}, 9)


def test_instances_have_documents_of_their_own():
    found = snapshot(**{"host1/piper@a": STOPPED, "host1/piper@b": STOPPED})
    assert found.node[ServiceKey("piper", "a")].override is not None
    assert found.node[ServiceKey("piper", "b")].refused.code == "kv.unknown_instance"


def test_a_key_that_is_no_service_name_is_a_stray_with_its_reason():
    found = snapshot(**{"host1/a b": STOPPED, "host1/a/b": STOPPED, "_all/-x": STOPPED})
    assert {key: reason.code for key, reason in found.strays.items()} == {
        "host1/a b": "kv.bad_name",
        "host1/a/b": "kv.bad_name",
        "_all/-x": "kv.bad_name",
    }
    assert not found.node


def test_a_folder_that_the_web_ui_made_is_passed_over():
    found = snapshot(**{"host1/": b"", "host1/piper/": b""})
    assert (found.node, found.strays) == ({}, {})


def test_a_service_that_this_host_lacks_is_refused_for_the_node_and_ignored_for_all():
    found = snapshot(**{"host1/vllm": STOPPED, "_all/vllm": STOPPED})
    assert found.node[ServiceKey("vllm")].refused.code == "kv.unknown_service"
    assert not found.all_nodes


def test_a_name_as_people_write_it_is_understood_but_the_canonical_one_wins():
    found = snapshot(**{"host1/GPT_SoVITS": STOPPED})
    assert ServiceKey("gpt-sovits") in found.node
    for other in ("GPT_SoVITS", "gpt_sovits"):  # one sorts before, one after the canonical name
        both = snapshot(**{f"host1/{other}": b"{}", "host1/gpt-sovits": STOPPED})
        assert both.node[ServiceKey("gpt-sovits")].override.state is DesiredState.STOPPED
        assert both.strays[f"host1/{other}"].code == "kv.duplicate_name"


def test_a_refused_document_leaves_the_last_good_one_in_force():
    before = Remembered(node={"piper": '{"state": "stopped"}'})
    entry = snapshot(before, **{"host1/piper": b'{"state": "stoped"}'}).node[ServiceKey("piper")]
    assert entry.refused.code == "kv.bad_state"
    assert entry.override.state is DesiredState.STOPPED
    assert entry.text == '{"state": "stoped"}'


def test_the_last_good_text_is_remembered_and_not_the_refused_one():
    before = Remembered(node={"piper": '{"state": "stopped"}', "gone": "{}"}, servers={"s1"})
    now = tree(**{"host1/piper": b"{", "_all/piper": STOPPED, "host1/later": b'{"state": "x"}'})
    kept = remember(now, DEFINED.get, before, index=12, servers=frozenset())
    assert kept.node == {"piper": '{"state": "stopped"}', "later": '{"state": "x"}'}
    assert kept.all_nodes == {"piper": '{"state": "stopped"}'}
    assert (kept.index, kept.servers) == (12, {"s1"})


def test_a_memory_survives_the_disk_and_a_broken_one_is_no_memory():
    memory = Remembered(5, frozenset({"a", "b"}), {"piper": "{}"}, {"vllm@a": "{}"})
    assert Remembered.from_record(memory.as_record()) == memory
    broken = {"index": "x", "servers": 5, "node": [1], "all_nodes": {"a": 5, "b": "{}"}}
    assert Remembered.from_record(broken) == Remembered(all_nodes={"b": "{}"})


def test_a_loss_is_a_fallen_index_or_servers_that_are_all_new():
    before = Remembered(100, frozenset({"a", "b", "c"}))
    assert before.lost_since(index=99, servers=frozenset())
    assert before.lost_since(index=500, servers=frozenset({"x"}))
    assert not before.lost_since(index=100, servers=frozenset({"c", "x", "y"}))
    assert not before.lost_since(index=100, servers=frozenset())
