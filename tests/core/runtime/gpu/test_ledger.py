"""What the next agent knows of GPUs, and what other nodes are told of them."""

from __future__ import annotations

from dataclasses import replace

from lictor.core.model.gpu import Gpu, GpuSpec, Inventory
from lictor.core.model.known import Known, Unknown
from lictor.core.model.reason import because
from lictor.core.planning.gpu_plan import Place
from lictor.core.runtime.gpu.ledger import Ledger
from lictor.core.runtime.gpu.view import facts, why_none
from lictor.core.testing import MemoryStore
from tests.core.build import desired, key, want

GIB = 1024**3
XTTS = key("xtts@a")


def later(store: MemoryStore) -> Ledger:
    """The ledger of the next agent."""
    found = Ledger(MemoryStore(store))
    found.load()
    return found


def test_places_and_orders_are_known_to_the_next_agent_until_they_are_taken_back():
    store = MemoryStore()
    ledger = Ledger(store)
    ledger.give(XTTS, Place("GPU-1", 6 * GIB))
    ledger.order([XTTS, key("vllm")])
    assert later(store).places == {XTTS: Place("GPU-1", 6 * GIB)}
    assert later(store).orders == {XTTS, key("vllm")}
    ledger.give(XTTS, None)
    ledger.fulfilled([XTTS, key("nobody")])
    assert later(store).places == {}
    assert later(store).orders == {key("vllm")}


def test_the_most_that_was_taken_is_kept_and_less_does_not_change_it():
    store = MemoryStore()
    wanted = want("xtts", gpu=GpuSpec())
    ledger = Ledger(store)
    for used in (4 * GIB, 9 * GIB, 2 * GIB, 0):
        ledger.took(wanted.spec, used)
    assert later(store).peaks(desired(wanted)) == {key("xtts"): 9 * GIB}
    assert later(store).peaks({}) == {}


def test_what_another_model_took_says_nothing():
    store = MemoryStore()
    wanted = want("vllm", command=("vllm", "large"), gpu=GpuSpec())
    Ledger(store).took(wanted.spec, 20 * GIB)
    other = replace(wanted, spec=replace(wanted.spec, command=("vllm", "small")))
    ledger = later(store)
    assert ledger.peaks(desired(other)) == {}
    ledger.took(other.spec, 3 * GIB)
    assert later(store).peaks(desired(other)) == {key("vllm"): 3 * GIB}


def test_rows_that_are_broken_are_passed_over():
    store = MemoryStore()
    store.save("gpus", "no name!", {"card": "x", "claim": 1})
    store.save("gpus", "xtts", {"card": "x", "claim": "much"})
    store.save("gpu_peaks", "xtts", {})
    ledger = later(store)
    assert (ledger.places, ledger.peaks(desired(want("xtts")))) == ({}, {})


def test_other_nodes_are_told_names_and_memory_in_steps():
    card = Gpu("G", 0, "NVIDIA T4", 7.5, total=16 * GIB, free=int(9.7 * GIB))
    told = facts(Known(Inventory((card,))))
    assert told["gpus"] == ["NVIDIA T4"]
    assert told["gpu_memory"] == [{"total_mb": 16384, "free_mb": 9216, "capability": 7.5}]
    moved = replace(card, free=int(9.5 * GIB))
    assert facts(Known(Inventory((moved,)))) == told, "small changes are no news for the cluster"


def test_of_what_was_not_seen_nothing_is_told():
    unknown = Unknown(because("gpu.unknown", why="it hangs"))
    assert facts(unknown) == {}
    assert facts(Known(Inventory(problem="no_driver"))) == {}
    assert why_none(unknown) == unknown.reason
    found = why_none(Known(Inventory(problem="mismatch")))
    assert found is not None
    assert found.code == "gpu.mismatch"
