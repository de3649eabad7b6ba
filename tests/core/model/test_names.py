"""Names that DNS can carry."""

from __future__ import annotations

import pytest

from lictor.core.model.names import (
    BadName,
    ServiceKey,
    canonical,
    dns_safe,
    is_label,
    registration_id,
)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("piper", "piper"),
        ("gpt_sovits_server", "gpt-sovits-server"),
        ("vLLM", "vllm"),
        (" redis ", "redis"),
        ("3d", "3d"),
        ("a" * 63, "a" * 63),
    ],
)
def test_what_people_type_becomes_a_dns_label(raw, name):
    assert canonical(raw) == name


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("-a", "letters"),
        ("a-", "letters"),
        ("_", "letters"),
        ("a.b", "letters"),
        ("a b", "letters"),
        ("голос", "letters"),
        ("piper\n", None),
        ("a" * 64, "63"),
    ],
)
def test_what_cannot_become_one_is_refused_with_the_reason(raw, complaint):
    if complaint is None:
        assert canonical(raw) == raw.strip()
        return
    with pytest.raises(BadName, match=complaint):
        canonical(raw)


def test_a_label_is_checked_to_its_very_end():
    assert not is_label("piper\n")
    assert not is_label("Piper")


@pytest.mark.parametrize("text", ["piper", "piper@a", "gpt-sovits@b-2"])
def test_a_key_is_written_as_it_is_read(text):
    assert str(ServiceKey.parse(text)) == text


@pytest.mark.parametrize("text", ["piper@", "@a", "a@b@c", "a/b"])
def test_half_a_key_is_none(text):
    with pytest.raises(BadName):
        ServiceKey.parse(text)


@pytest.mark.parametrize(
    ("host", "label"),
    [
        ("Host1.example.org", "host1"),
        ("my_host", "my-host"),
        ("--x--", "x"),
        ("мой", "node"),
        ("", "node"),
        ("a" * 62 + "-b", "a" * 62),
    ],
)
def test_a_host_name_becomes_the_nearest_label(host, label):
    assert dns_safe(host) == label


def test_an_id_names_node_service_and_instance():
    assert registration_id("host1", ServiceKey("piper")) == "lictor:host1:piper"
    assert registration_id("host1", ServiceKey("piper", "a")) == "lictor:host1:piper:a"
