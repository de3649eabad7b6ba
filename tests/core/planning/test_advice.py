"""The VRAM table for a host, and the arithmetic beside it."""

from __future__ import annotations

import pytest

from lictor.core.config.catalogue import template
from lictor.core.model.gpu import Gpu
from lictor.core.planning.advice import GIB, QWEN, SINGLE, TABLE, XTTS, Card, advise
from lictor.core.planning.placement import Ask, claim_on
from tests.core.config.support import accepted


def card(gib: float, capability: float | None = 8.6, name: str = "RTX", uuid: str = "u1") -> Card:
    return Card(uuid, name, round(gib * GIB), capability)


def row(found, gigabytes):
    (one,) = [one for one in found.table if one.gigabytes == gigabytes]
    return one


def names(found) -> tuple[str, str]:
    (best,) = [one for one in found.table if one.best]
    return best.llm.model, best.voice.model


def test_the_table_is_that_of_the_users():
    assert [(r.gigabytes, r.llm.model, r.voice.model) for r in advise(()).table] == [
        (None, "Cloud LLM", "Piper"),
        (8, "Qwen2.5-7B AWQ", "Piper"),
        (12, "Qwen2.5-7B AWQ", "XTTS v2"),
        (16, "Llama-3.1-8B FP16", "XTTS v2"),
    ]


@pytest.mark.parametrize(
    ("gib", "here", "best"),
    [
        (6, None, ("Cloud LLM", "Piper")),
        (7.8, 8, ("Qwen2.5-7B AWQ", "Piper")),
        (8, 8, ("Qwen2.5-7B AWQ", "Piper")),
        (11.76, 12, ("Qwen2.5-7B AWQ", "XTTS v2")),
        (12, 12, ("Qwen2.5-7B AWQ", "XTTS v2")),
        (16, 16, ("Qwen2.5-7B AWQ", "XTTS v2")),
        (24, 16, ("Llama-3.1-8B FP16", "XTTS v2")),
    ],
)
def test_one_card(gib, here, best):
    found = advise([card(gib)])
    assert [one.gigabytes for one in found.table if one.here] == [here]
    assert names(found) == best


def test_where_the_table_and_the_arithmetic_disagree_both_are_said():
    """16 GB hold Llama's weights of 15 GiB, and nothing beside them."""
    found = advise([card(16)])
    assert row(found, 16).here
    assert not row(found, 16).fits
    assert row(found, 16).reason.code == "advice.too_large"
    assert row(found, 16).reason.params == {"needs": 22 * GIB, "has": 16 * GIB}


def test_two_cards_hold_together_what_one_cannot():
    found = advise([card(18, uuid="a", name="A"), card(8, uuid="b", name="B")])
    assert names(found) == ("Llama-3.1-8B FP16", "XTTS v2")
    assert row(found, 16).reason.params["gpu"] == "A, B"


@pytest.mark.parametrize(
    ("gib", "gigabytes", "share"),
    [(8, 8, 0.75), (7.8, 8, 0.77), (11.76, 12, 0.52), (12, 12, None), (24, 16, 0.69)],
)
def test_a_card_of_which_half_is_too_little_gets_the_share_that_is_enough(gib, gigabytes, share):
    """The template takes half of the card, so 8 GB would give Qwen 4 of the 6 GiB that it needs."""
    reason = row(advise([card(gib)]), gigabytes).reason
    assert reason.code == ("advice.fits" if share is None else "advice.fits_by_share")
    assert reason.params.get("share") == share


def test_the_share_is_that_of_the_card_where_the_model_goes():
    found = advise([card(18, uuid="a", name="A"), card(8, uuid="b", name="B")])
    assert row(found, 16).reason.params["share"] == 0.92
    alone = {one.need.service: one.reason for one in found.singles}
    assert alone["vllm"].code == "advice.fits"
    assert alone["xtts"].code == "advice.fits"


def test_two_halves_do_not_make_one_card():
    assert not row(advise([card(12, uuid="a"), card(12, uuid="b")]), 16).fits


def test_an_old_card_is_told_what_it_lacks():
    found = advise([card(11, 6.1, "GTX 1080 Ti")])
    assert names(found) == ("Cloud LLM", "Piper")
    by = {one.need.service: one for one in found.singles}
    assert by["xtts"].reason.code == "advice.capability"
    assert by["xtts"].reason.params == {"service": "XTTS v2", "needs": 7.0, "has": 6.1}
    assert by["openvoice"].fits
    assert by["ollama"].fits
    assert not by["vllm"].fits


def test_a_voice_is_not_put_on_a_card_that_is_too_old_for_it():
    found = advise([card(8, 8.6, "new", "a"), card(24, 6.1, "old", "b")])
    assert row(found, 8).fits
    assert not row(found, 12).fits


def test_without_a_card_the_cloud_and_the_cpu_are_left():
    found = advise(())
    assert names(found) == ("Cloud LLM", "Piper")
    assert row(found, None).here
    fits = {one.need.service for one in found.singles if one.fits}
    assert fits == {"piper", "whisper", "llm"}
    assert row(found, 8).reason.code == "advice.no_gpu"


def test_a_card_that_does_not_say_its_capability_may_try():
    assert names(advise([card(12, None)])) == ("Qwen2.5-7B AWQ", "XTTS v2")


def test_more_memory_never_fits_less():
    kept: set[tuple[int | None, str]] = set()
    for gib in range(1, 49):
        found = advise([card(gib)])
        fits = {(one.gigabytes, one.llm.model) for one in found.table if one.fits}
        fits |= {(None, one.need.service) for one in found.singles if one.fits}
        assert kept <= fits
        kept = fits


@pytest.mark.parametrize("need", SINGLE, ids=lambda need: need.service)
def test_the_claims_are_those_of_the_templates(tmp_path, need):
    (tmp_path / ".env").write_text("")
    text = f"services:\n  a: {{template: {need.service}}}\n"
    (spec,) = accepted(tmp_path, text, data_dir=tmp_path).services.values()
    claims_one = need.memory > 0 and need.service != "ollama"  # (it helps itself)
    assert template(need.service).gpu is claims_one
    assert (spec.gpu is not None) is claims_one
    if spec.gpu is None:
        return
    # A share is of whatever card it is: of the smallest on which a voice has its place beside the
    # model, it is what the model needs. (What is said in bytes is the same on every card.)
    (smallest,) = [gb for gb, llm, voice in TABLE if (llm, voice) == (QWEN, XTTS)]
    there = Gpu("u1", 0, total=smallest * GIB)
    assert claim_on(Ask(spec.key, spec.gpu), there) == need.memory
    assert spec.gpu.utilization == need.share
    assert spec.gpu.min_compute_capability == (need.capability or None)
