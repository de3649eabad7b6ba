"""What may be asked for as a model: the hub's rules, or the owner's word, and never a way around."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lictor.core.config.params import bad_value
from lictor.core.locales import render
from lictor.core.model.spec import ParamSpec
from lictor.core.planning.model_names import (
    LONGEST,
    hub_id_problem,
    model_problem,
    offers_choice,
)
from lictor.core.probes.hub_cache import folder_name

HUB = ParamSpec("org/first")


@pytest.mark.parametrize(
    "good",
    [
        "Qwen/Qwen2.5-7B-Instruct-AWQ",
        "a/b",
        "meta-llama/Llama-3.1-8B",
        "org_1/x_",
        f"{'o' * LONGEST}/{'n' * LONGEST}",
    ],
)
def test_an_id_of_the_hub_is_taken(good):
    assert model_problem(HUB, good) is None


@pytest.mark.parametrize(
    "bad",
    [
        *("", "gpt2", "/", "a/", "/b", "a/b/c", "https://x/y", "a b/c", "a/b\n", " a/b", "a/b "),
        *("../b", "a/..", "a/b..c", "a/.b", ".a/b", "-a/b", "a/-b", "a/b-", "a/b.", "a--b/c"),
        *("a/b.git", "a/b;rm", "a/$HOME", "орг/модель", "a/b\u202ec", "--trust-remote-code"),
        f"{'o' * (LONGEST + 1)}/n",
    ],
)
def test_what_is_no_id_is_refused_with_what_was_expected(bad):
    problem = model_problem(HUB, bad)
    assert problem is not None
    said = render(problem.code, problem.params)
    assert "expected org/name" in said or "way out" in said


def test_choices_and_patterns_are_the_owners_word():
    listed = ParamSpec("small", choices=("small", "/models/large"))
    assert model_problem(listed, "/models/large") is None
    assert "expected one of small" in bad_value(listed, "org/name")
    path = ParamSpec("/models/a", pattern=r"/models/.+")
    assert model_problem(path, "/models/b") is None


@pytest.mark.parametrize("sly", ["/models/../../etc/shadow", "..", "-x", "/models/\0x", "/m/\x1b["])
def test_no_pattern_can_allow_a_way_out_or_what_nobody_can_see(sly):
    assert model_problem(ParamSpec("x", pattern=r"[\s\S]*"), sly) is not None


@given(st.text(max_size=40))
def test_every_id_that_is_taken_has_a_folder_of_its_own_directly_in_the_cache(text):
    if hub_id_problem(text) is None:
        name = folder_name(text)
        assert "/" not in name
        assert name.startswith("models--")
        assert name.removeprefix("models--").replace("--", "/", 1) == text


def test_only_a_text_can_be_chosen_as_a_model():
    assert offers_choice({"model": HUB})
    assert not offers_choice({"model": ParamSpec(3)})
    assert not offers_choice({"voice": HUB})
