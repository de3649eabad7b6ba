"""A service more in the text of config.yml, and every other byte as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lictor.core.config.adding import insert
from lictor.core.errors import ConfigError, Refused

ENTRY = ["# Words", "new:", "  template: piper", "", "  # more"]
SHOWN = "  # Words\n  new:\n    template: piper\n\n    # more\n"


def added(text: str) -> str:
    return insert(text, "config.yml", "new", ENTRY)


def test_it_goes_behind_the_last_service_and_before_what_follows():
    before = (
        "# mine\nagent: {node: a}   # here\n\nservices:\n  a:\n    command: [x]  # why\n"
        "    env:\n      A: 1\n\n  # --- examples\n  # b:\n  #   command: [y]\n\nweb:\n  port: 1\n"
    )
    head, tail = before.split("      A: 1\n")
    assert added(before) == head + "      A: 1\n\n" + SHOWN + tail


def test_comments_below_the_keys_of_the_last_service_stay_with_it():
    once = added("services:\n  a: {command: [x]}\n")
    twice = insert(once, "config.yml", "other", ["other:", "  template: piper"])
    assert twice == once + "\n  other:\n    template: piper\n"


def test_a_file_that_ends_with_the_services_gets_it_at_its_end():
    before = "services:\n  a: {command: [x]}\n"
    assert added(before) == before + "\n" + SHOWN
    assert added(before.rstrip("\n")) == before + "\n" + SHOWN


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "services:\n" + SHOWN),
        ("# only words\n", "# only words\n\nservices:\n" + SHOWN),
        ("services:\n", "services:\n" + SHOWN),
        (
            "services: {}  # none yet\nweb: {port: 1}\n",
            "services:  # none yet\n" + SHOWN + "\nweb: {port: 1}\n",
        ),
        ("web: {port: 1}\n", "web: {port: 1}\n\nservices:\n" + SHOWN),
    ],
)
def test_a_file_without_services_gets_the_section(before, after):
    assert added(before) == after


def test_the_indentation_of_the_file_is_kept():
    before = "services:\n    a:\n        command: [x]\n"
    assert added(before).endswith(
        "\n    # Words\n    new:\n      template: piper\n\n      # more\n"
    )


def test_line_ends_of_another_system_are_kept():
    after = added("services:\r\n  a: {command: [x]}\r\n")
    assert after.count("\r\n") == after.count("\n")


def test_a_file_with_two_kinds_of_line_ends_keeps_both():
    before = "services:\r\n  a: {command: [x]}\n"
    assert added(before) == before + "\n" + SHOWN


def test_a_long_text_at_the_end_is_not_torn():
    before = "services:\n  a:\n    command: [x]\n    description: |\n      one\n\n      # two\n      three\n"
    assert added(before) == before + "\n" + SHOWN


@pytest.mark.parametrize("name", ["new", "NEW"])
def test_a_name_that_exists_is_refused(name):
    with pytest.raises(Refused, match="has a service `new` already"):
        added(f"services:\n  {name}: {{command: [x]}}\n")


@pytest.mark.parametrize(
    "text",
    [
        "services: {a: {command: [x]}}\n",
        "services:\n  {a: {command: [x]}}\n",
        "{services: {}}\n",
        "services: [a]\n",
        "- a\n",
    ],
)
def test_a_form_that_it_does_not_understand_is_left_alone(text):
    with pytest.raises(Refused) as caught:
        added(text)
    assert caught.value.code == "add.unclear"


@pytest.mark.parametrize("text", ["", "services:\n  a: {command: [x]}\n"])
@pytest.mark.parametrize(
    "entry",
    [
        ["new:", "  template: piper", "more:", "  template: piper"],
        ["another:", "  template: piper"],
        ["# new:"],
    ],
)
def test_what_would_say_more_or_less_than_the_one_service_is_not_written(text, entry):
    with pytest.raises(Refused) as caught:
        insert(text, "config.yml", "new", entry)
    assert caught.value.code == "add.unclear"


def test_a_last_line_that_only_looks_like_a_comment_is_never_torn_off():
    """Inside of a long text `#` is text."""
    text = "services:\n  a:\n    command: [x]\n    description: |\n      one\n      # the last\n"
    assert added(text) == text + "\n" + SHOWN


def test_a_file_that_is_no_yaml_is_refused_with_its_place():
    with pytest.raises(ConfigError, match=r"config\.yml:"):
        added("services: [\n")


names = st.text("abcdef", min_size=1, max_size=4)
blank = st.sampled_from(["", "\n", "  # words\n", "# words\n", "\n\n"])


@given(st.dictionaries(names, blank, min_size=1, max_size=5), blank, st.booleans())
def test_whatever_was_there_stays_in_its_order(services, tail, more):
    text = "services:\n"
    for name, gap in services.items():
        text += f"  {name}:\n    command: [x]\n{gap}"
    text += tail + ("web:\n  port: 1\n" if more else "")
    after = added(text)
    kept = iter(after.splitlines())
    assert all(line in kept for line in text.splitlines() if line.strip())
    assert SHOWN in after + "\n"
