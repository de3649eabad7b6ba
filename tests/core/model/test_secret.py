"""Secrets are known by their names."""

from __future__ import annotations

import pytest

from lictor.core.model.secret import MASK, is_secret, shown


@pytest.mark.parametrize(
    "name", ["API_TOKEN", "api_key", "dbPassword", "client-secret", "AWS_CREDENTIALS", "passwd"]
)
def test_a_secret_by_its_name_is_masked(name):
    assert is_secret(name)
    assert shown(name, "hunter2") == MASK


@pytest.mark.parametrize("name", ["model", "voice", "PORT", "PATH"])
def test_other_values_are_shown_as_they_are(name):
    assert not is_secret(name)
    assert shown(name, 5) == 5
