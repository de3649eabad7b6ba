"""What takes effect only at a start, and what can be exchanged under a running service."""

from __future__ import annotations

import pytest

from lictor.core.model.spec import (
    HealthSpec,
    Limits,
    ParamRef,
    ParamSpec,
    RestartPolicy,
    ServiceSpec,
)
from tests.core.build import key, spec

WITH_PARAM = {
    "command": ("serve", "--model", ParamRef("model")),
    "env": {"FAST": ParamRef("fast"), "HOME": "/x"},
    "params": {"model": ParamSpec("small"), "fast": ParamSpec(default=True)},
}


def test_parameters_fill_whole_elements():
    one = spec(**WITH_PARAM)
    assert one.argv() == ("serve", "--model", "small")
    assert one.environment() == {"FAST": "true", "HOME": "/x"}
    other = one.with_params({"model": "large v2; rm -rf /", "fast": False})
    assert other.argv()[2] == "large v2; rm -rf /"
    assert other.environment()["FAST"] == "false"
    assert one.param("model") == "small"


@pytest.mark.parametrize(
    "fields",
    [
        {"command": ("other",)},
        {"before": (("migrate",),)},
        {"cwd": "/elsewhere"},
        {"env": {"A": "b"}},
        {"user": "piper"},
        {"umask": 0o077},
        {"host": "0.0.0.0"},
        {"port": 5001},
        {"driver": "observed"},
        {"limits": Limits(memory=1)},
    ],
)
def test_what_is_given_at_the_start_changes_the_fingerprint(fields):
    assert spec(**fields).fingerprint() != spec().fingerprint()


@pytest.mark.parametrize(
    "fields",
    [
        {"description": "new"},
        {"tags": ("a",)},
        {"meta": {"a": "b"}},
        {"address": "10.0.0.1"},
        {"health": HealthSpec(startup=9)},
        {"restart": RestartPolicy(backoff=9)},
        {"needs": ["db"]},
        {"later": {"metrics": "/metrics"}},
        {"params": {"unused": ParamSpec("x")}},
    ],
)
def test_what_only_lictor_uses_does_not(fields):
    assert spec(**fields).fingerprint() == spec().fingerprint()


def test_a_parameter_that_is_set_to_its_default_is_no_change():
    one = spec(**WITH_PARAM)
    assert one.with_params({"model": "small"}).fingerprint() == one.fingerprint()
    assert one.with_params({"model": "large"}).fingerprint() != one.fingerprint()


def test_a_fingerprint_does_not_depend_on_the_order_of_the_environment():
    one, two = spec(env={"A": "1", "B": "2"}), spec(env={"B": "2", "A": "1"})
    assert one.fingerprint() == two.fingerprint()


def test_words_of_a_command_are_not_run_together():
    assert spec(command=("a b",)).fingerprint() != spec(command=("a", "b")).fingerprint()


def test_the_environment_is_not_shown_by_accident():
    assert "secret" not in repr(ServiceSpec(key=key("a"), env={"TOKEN": "secret"}))
