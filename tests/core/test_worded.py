"""Errors as codes: the English sentence for logs and JSON, and what other languages are made of."""

from __future__ import annotations

import pytest

from lictor.core.errors import (
    ConsulUnreachable,
    LictorError,
    NoSuchService,
    Refused,
    StartFailed,
    UsageError,
)
from lictor.core.model.reason import because
from lictor.core.worded import record, worded

HELD = because("order.held", service="piper")
BY = because("hold.by", by="anna", state="stopped", why="the disk is full")
ENDS = because("next.end_hold", service="piper")


def test_its_text_is_its_reasons_in_english():
    error = worded(Refused, HELD, BY, hint=ENDS, code="held")
    assert isinstance(error, Refused)
    assert (error.code, error.exit_code) == ("held", 8)
    assert error.message == str(error.args[0])
    assert error.message.startswith("piper is held. ")
    assert "the disk is full" in error.message
    assert error.hint == "`lictor release piper` ends it."
    assert str(error) == f"{error.message} {error.hint}"


def test_it_keeps_the_code_of_its_kind_unless_another_is_given():
    error = worded(NoSuchService, because("service.none", name="x"))
    assert (error.code, error.hint, error.exit_code) == ("service.unknown", "", 4)
    assert Refused.code == "refused", "the code of one error is not that of its kind"


def test_what_is_told_of_it_has_both_texts_as_codes():
    assert record(worded(Refused, HELD, BY, hint=ENDS)) == {
        "code": "refused",
        "message": worded(Refused, HELD, BY).message,
        "hint": "`lictor release piper` ends it.",
        "reasons": [
            {"code": "order.held", "params": {"service": "piper"}},
            {
                "code": "hold.by",
                "params": {"by": "anna", "state": "stopped", "why": "the disk is full"},
            },
        ],
        "hint_reasons": [{"code": "next.end_hold", "params": {"service": "piper"}}],
    }


@pytest.mark.parametrize(
    ("error", "reasons"),
    [
        (UsageError("Only English."), []),
        (LictorError("Only English.", hint="Too."), []),
        (
            StartFailed("no", reason_code="start.not_found", params={"program": "vllm"}),
            [{"code": "start.not_found", "params": {"program": "vllm"}}],
        ),
        (
            ConsulUnreachable("refused"),
            [{"code": "consul.unreachable", "params": {"message": "refused"}}],
        ),
    ],
)
def test_an_error_without_reasons_is_said_by_its_kind_where_that_has_a_sentence(error, reasons):
    said = record(error)
    assert (said["message"], said["hint"]) == (error.message, error.hint)
    assert (said["reasons"], said["hint_reasons"]) == (reasons, [])
