"""Edits of desired documents: here, in KV, now or later, they must come to the same."""

from __future__ import annotations

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from lictor.consul_integration.document import parse_document
from lictor.consul_integration.edit import edited
from lictor.core.model.desired import Override
from lictor.core.runtime.desired.keeper import apply_change, merge_changes
from lictor.core.runtime.storage.codec import override_from, override_row
from tests.properties import strategies as made


def _parsed(text: str | None) -> Override | None:
    if text is None:
        return None
    found = parse_document(text, made.PARAMS)
    assert isinstance(found, Override), (text, found)
    return found


@given(st.lists(made.changes(), max_size=5))
def test_an_order_has_the_effect_here_that_its_document_will_have_from_kv(changes):
    text: str | None = None
    here: Override | None = None
    for change in changes:
        text = edited(None if text is None else text.encode(), change)
        here = apply_change(here, change)
        assert here == _parsed(text)


@given(st.none() | made.overrides(), st.lists(made.changes(), min_size=1, max_size=5))
def test_orders_pushed_together_do_what_they_did_one_by_one(before, changes):
    one_by_one = reduce(apply_change, changes, before)
    together = reduce(apply_change, reduce(merge_changes, changes, ()), before)
    # Who and why are told by the last edit; an edit that left no document is not remembered.
    assert _said(together) == _said(one_by_one)


def _said(override: Override | None):
    if override is None:
        return None
    return override.state, dict(override.params), override.restart, override.until


@given(st.lists(made.changes(), min_size=1, max_size=6))
def test_pending_orders_are_never_more_than_a_removal_and_one_change(changes):
    merged = reduce(merge_changes, changes, ())
    assert len(merged) <= 2
    assert not any(change.remove for change in merged[1:])


@given(made.overrides())
def test_a_document_in_force_survives_the_disk(override):
    assert override_from(override_row(override)) == override
