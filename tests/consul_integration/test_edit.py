"""Edits of one document keep what they do not mention."""

import json

import pytest

from lictor.consul_integration.edit import edited
from lictor.core.ports import DesiredChange


def text(**fields) -> bytes:
    return json.dumps(fields).encode()


def test_the_first_edit_makes_a_document_that_a_person_can_read():
    change = DesiredChange(state="stopped", by="anna", reason="нет памяти")
    assert edited(None, change) == '{"by": "anna", "reason": "нет памяти", "state": "stopped"}'


def test_an_edit_keeps_what_it_does_not_mention():
    before = text(state="stopped", params={"a": 1, "b": 2}, until="2024-05-01T10:00:00Z")
    after = json.loads(edited(before, DesiredChange(params={"b": 3}, unset_params=("zz",))))
    assert after == {
        "state": "stopped",
        "params": {"a": 1, "b": 3},
        "until": "2024-05-01T10:00:00Z",
    }


def test_parameters_are_unset_one_by_one_and_the_last_one_takes_the_key_with_it():
    before = text(params={"a": 1, "b": 2})
    assert edited(before, DesiredChange(unset_params=("a",))) == '{"params": {"b": 2}}'
    assert edited(before, DesiredChange(unset_params=("a", "b"))) is None


def test_clearing_the_state_of_a_document_that_says_nothing_else_deletes_it():
    before = text(state="stopped", by="anna", reason="r")
    assert edited(before, DesiredChange(clear_state=True)) is None
    assert edited(before, DesiredChange(clear_state=True, state="running")) is not None


def test_removal_wins_over_everything_else():
    assert edited(text(state="stopped"), DesiredChange(remove=True, state="running")) is None


def test_a_new_author_does_not_inherit_the_reason_of_the_last_one():
    before = text(state="stopped", by="anna", reason="driver upgrade")
    after = json.loads(edited(before, DesiredChange(state="running", by="boris")))
    assert after == {"state": "running", "by": "boris"}


@pytest.mark.parametrize("broken", [b"", b"{", b"[]", b"\xff", b"[" * 9000, b'{"stat": 1}'])
def test_a_verb_repairs_a_document_that_nobody_can_read(broken):
    assert edited(broken, DesiredChange(state="running")) == '{"state": "running"}'


def test_the_end_can_be_taken_away_and_a_new_one_set():
    before = text(state="stopped", until="2024-05-01T10:00:00Z")
    assert json.loads(edited(before, DesiredChange(clear_until=True))) == {"state": "stopped"}
    later = DesiredChange(clear_until=True, until="2030-05-01T10:00:00Z")
    assert json.loads(edited(before, later))["until"] == "2030-05-01T10:00:00Z"


def test_a_document_that_begins_anew_keeps_nothing_of_the_old_one():
    before = text(state="stopped", params={"a": 1}, until="2024-05-01T10:00:00Z", by="anna")
    change = DesiredChange(state="running", anew=True)
    assert json.loads(edited(before, change)) == {"state": "running"}
