"""Values that a person gives: of the right type, and no secret among them is ever repeated."""

from __future__ import annotations

import pytest

from lictor.core.errors import UsageError
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ParamSpec
from lictor.core.runtime.supervision.one_run import refuse_misfit, typed
from lictor.core.worded import record

KEY = ServiceKey("piper")
TEXT = ParamSpec("abc", (), "[a-z]+")


def test_a_value_that_does_not_fit_is_named_with_what_would():
    with pytest.raises(UsageError) as told:
        refuse_misfit(KEY, "voice", "Anna!", TEXT)
    assert "Anna!" in str(told.value)
    assert "[a-z]+" in str(told.value)
    assert told.value.hint == "Nothing was changed."


def test_a_value_of_another_type_is_named_with_its_type():
    with pytest.raises(UsageError) as told:
        typed("speed", "fast", ParamSpec(1))
    assert str(told.value) == "speed='fast' is not a value of type int."


@pytest.mark.parametrize("name", ["api_key", "TOKEN", "db-password"])
def test_a_secret_is_not_repeated(name):
    with pytest.raises(UsageError) as unfit:
        refuse_misfit(KEY, name, "Hunter2!", TEXT)
    with pytest.raises(UsageError) as other_type:
        typed(name, "Hunter2!", ParamSpec(1))
    for told in (unfit.value, other_type.value):
        assert name in str(told)
        assert "Hunter2" not in str(record(told))
