"""What a KV document may say, and every way in which it may not."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lictor.consul_integration.document import MAX_BYTES, parse_document, unix_seconds
from lictor.core.model.desired import DesiredState, Override
from lictor.core.model.reason import Reason
from lictor.core.model.spec import ParamSpec

PARAMS = {
    "model": ParamSpec("small", choices=("small", "large")),
    "voice": ParamSpec("anna", pattern=r"[a-z]+(/[a-z]+)?"),
    "text": ParamSpec("x"),
    "speed": ParamSpec(1.0),
    "threads": ParamSpec(4),
    "seed": ParamSpec(-1),
    "warm": ParamSpec(default=True),
    "broken": ParamSpec("x", pattern="("),
}


def parsed(document):
    return parse_document(json.dumps(document), PARAMS)


def test_an_empty_document_asks_for_nothing():
    assert parse_document("{}", PARAMS) == Override()


def test_a_full_document_is_read_field_by_field():
    assert parsed(
        {
            "state": "stopped",
            "params": {"model": "large", "speed": 2, "threads": 8, "warm": False},
            "restart": "2024-05-01T10:00:00Z",
            "until": "2024-05-01T12:00:00.5+02:00",
            "by": "anna",
            "reason": "нужна память",
        }
    ) == Override(
        state=DesiredState.STOPPED,
        params={"model": "large", "speed": 2.0, "threads": 8, "warm": False},
        restart=1714557600.0,
        until=1714557600.5,
        by="anna",
        reason="нужна память",
    )


@pytest.mark.parametrize("state", list(DesiredState))
def test_each_state_is_a_word(state):
    assert parsed({"state": state.value}) == Override(state=state)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "kv.bad_json"),
        ("running", "kv.bad_json"),
        ("{'state': 'running'}", "kv.bad_json"),
        ('{"state": "running"', "kv.bad_json"),
        ('{"state": "running"} x', "kv.bad_json"),
        ("[]", "kv.not_object"),
        ("null", "kv.not_object"),
        ('"running"', "kv.not_object"),
        ("5", "kv.not_object"),
        ('{"state": "running", "state": "stopped"}', "kv.duplicate_key"),
        ('{"params": {"speed": 1, "speed": 2}}', "kv.duplicate_key"),
        ('{"params": {"speed": NaN}}', "kv.bad_number"),
        ('{"params": {"speed": Infinity}}', "kv.bad_number"),
        ('{"params": {"speed": 1e999}}', "kv.bad_number"),
        ('{"params": {"threads": 1' + "0" * 5000 + "}}", "kv.bad_number"),
        ('{"params": ' + '{"a": ' * 17 + "1" + "}" * 18, "kv.too_deep"),
        ("[" * 8000 + "]" * 8000, "kv.too_deep"),
        ('{"reason": "' + "x" * MAX_BYTES + '"}', "kv.too_large"),
        (b'{"reason": "\xff"}', "kv.not_text"),
        (b"\xef\xbb\xbf{}", "kv.bad_json"),
        ('{"command": ["rm", "-rf", "/"]}', "kv.unknown_field"),
        ('{"State": "running"}', "kv.unknown_field"),
        ('{"env": {}}', "kv.unknown_field"),
        ('{"state": "Running"}', "kv.bad_state"),
        ('{"state": null}', "kv.bad_state"),
        ('{"state": ["running"]}', "kv.bad_state"),
        ('{"by": 5}', "kv.bad_text"),
        ('{"reason": "two\\nlines"}', "kv.bad_text"),
        ('{"reason": "\\u001b[2J"}', "kv.bad_text"),
        ('{"reason": "\\ud800"}', "kv.bad_text"),
        ('{"reason": "' + "x" * 1001 + '"}', "kv.bad_text"),
        ('{"params": []}', "kv.params_not_object"),
        ('{"params": null}', "kv.params_not_object"),
        ('{"params": {"image": "x"}}', "kv.unknown_param"),
        ('{"params": {"model": "huge"}}', "kv.bad_param_choice"),
        ('{"params": {"model": 5}}', "kv.bad_param_type"),
        ('{"params": {"model": null}}', "kv.bad_param_type"),
        ('{"params": {"threads": "8"}}', "kv.bad_param_type"),
        ('{"params": {"threads": 8.5}}', "kv.bad_param_type"),
        ('{"params": {"threads": true}}', "kv.bad_param_type"),
        ('{"params": {"speed": false}}', "kv.bad_param_type"),
        ('{"params": {"warm": 1}}', "kv.bad_param_type"),
        ('{"params": {"voice": "anna/../x"}}', "kv.bad_param_pattern"),
        ('{"params": {"voice": "anna\\n"}}', "kv.bad_text"),
        ('{"params": {"voice": "xanna1"}}', "kv.bad_param_pattern"),
        ('{"params": {"broken": "y"}}', "kv.bad_param_pattern"),
        ('{"params": {"text": "--upload=/etc/passwd"}}', "kv.param_is_option"),
        ('{"params": {"text": "-x"}}', "kv.param_is_option"),
        ('{"params": {"threads": -1}}', "kv.param_is_option"),
        ('{"params": {"text": "a\\u0000b"}}', "kv.bad_text"),
        ('{"until": "tomorrow"}', "kv.bad_time"),
        ('{"until": "2024-05-01T10:00:00"}', "kv.bad_time"),
        ('{"until": "2024-05-01"}', "kv.bad_time"),
        ('{"restart": 1714557600}', "kv.bad_time"),
        ('{"restart": "2024-02-31T10:00:00Z"}', "kv.bad_time"),
        ('{"restart": "0001-01-01T00:00:00+23:59"}', None),
        ('{"restart": "٢٠٢٤-05-01T10:00:00Z"}', "kv.bad_time"),
    ],
)
def test_a_document_that_does_not_fit_is_refused_whole_with_its_reason(text, code):
    result = parse_document(text, PARAMS)
    if code is None:
        assert isinstance(result, Override)
        return
    assert isinstance(result, Reason)
    assert result.code == code


def test_what_the_author_of_the_config_chose_is_always_fine():
    assert parsed({"params": {"seed": -1, "broken": "x"}}) == Override(
        params={"seed": -1, "broken": "x"}
    )


def test_one_wrong_parameter_refuses_the_right_ones_too():
    result = parsed({"state": "running", "params": {"speed": 2.0, "threads": "many"}})
    assert isinstance(result, Reason)
    assert result.params == {"param": "threads", "value": "many", "type": "int"}


def test_bad_json_says_where_it_goes_wrong():
    result = parse_document('{\n  "state": running\n}', PARAMS)
    assert isinstance(result, Reason)
    assert (result.params["line"], result.params["column"]) == (2, 12)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("1970-01-01t01:00:00+01:00", 0.0),
        ("1970-01-01 00:00:00.123456789Z", 0.123456),
        ("1969-12-31T23:59:59Z", -1.0),
        ("1970-01-01T00:00:00", None),
        ("1970-01-01T00:00Z", None),
        ("1970-01-01T24:00:01Z", None),
        ("1970-01-01T00:00:00+0100", None),
    ],
)
def test_times_are_rfc_3339_with_a_zone(text, seconds):
    assert unix_seconds(text) == seconds


fields = st.sampled_from(["state", "params", "restart", "until", "by", "reason", "x"])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*PARAMS, "y"]) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)
near_documents = st.dictionaries(fields, values, max_size=6).map(json.dumps)


@settings(max_examples=400, deadline=None)
@given(st.text() | st.binary() | near_documents | values.map(json.dumps))
def test_any_text_at_all_gives_an_override_or_a_reason_and_never_an_exception(text):
    result = parse_document(text, PARAMS)
    if isinstance(result, Override):
        assert set(result.params) <= set(PARAMS)
        for name, value in result.params.items():
            assert type(value) is type(PARAMS[name].default)
            assert not str(value).startswith("-") or value == PARAMS[name].default
        assert parse_document(text, PARAMS) == result
    else:
        assert result.code.startswith("kv.")
        assert all("\n" not in str(value) for value in result.params.values())
        assert all(str(value).isprintable() for value in result.params.values())


@settings(max_examples=100, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "state": st.sampled_from(["running", "stopped", "maintenance"]),
            "params": st.fixed_dictionaries(
                {},
                optional={
                    "model": st.sampled_from(["small", "large"]),
                    "threads": st.integers(0, 10**6),
                    "speed": st.floats(0, 1e6),
                    "warm": st.booleans(),
                },
            ),
            "by": st.text("abcЖ中 ", max_size=20),
        },
    )
)
def test_every_document_that_follows_the_rules_is_accepted_and_kept(document):
    result = parsed(document)
    assert isinstance(result, Override)
    assert result.state == document.get("state")
    assert dict(result.params) == document.get("params", {})
    assert result.by == document.get("by", "")
