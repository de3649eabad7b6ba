"""Why an instance is not in an answer."""

from __future__ import annotations

import pytest

from lictor.core.planning.leftout import left_out, stands_by, unexplained

WELL = {
    "health": "passing",
    "check": "",
    "output": "",
    "node": "host1",
    "tags": ("cpu", "TTS"),
    "service": "piper",
}


@pytest.mark.parametrize(
    ("differs", "code"),
    [
        ({}, None),
        ({"tag": "tts"}, None),
        ({"health": "warning", "output": "429"}, None),
        ({"tag": "gpu"}, "left_out.tag"),
        ({"tag": "gpu", "health": "critical"}, "left_out.tag"),
        ({"health": "critical", "check": "c", "output": "refused"}, "left_out.critical"),
        ({"health": "critical", "check": "serfHealth"}, "left_out.node_lost"),
        ({"health": "maintenance", "check": "_node_maintenance"}, "left_out.maintenance"),
        ({"service": "Their_Voice2"}, None),
        ({"service": "a.b"}, "left_out.unsafe"),
        ({"service": "голос"}, "left_out.unsafe"),
        ({"service": "a" * 64}, "left_out.unsafe"),
        ({"service": "a.b", "health": "critical"}, "left_out.critical"),
    ],
)
def test_dns_leaves_out_who_lacks_the_tag_fails_or_is_in_maintenance(differs, code):
    why = left_out(**{**WELL, **differs})
    assert (why.code if why is not None else None) == code


def test_only_a_member_of_a_group_can_stand_by():
    meta = {"lictor-group": "voice"}
    why = stands_by(("xtts", "standby"), meta)
    assert why is not None
    assert why.params == {"group": "voice"}
    assert stands_by(("xtts",), meta) is None
    assert stands_by(("standby",), {}) is None  # somebody else's tag means what they want


def test_who_passes_and_is_not_given_is_explained_by_the_question():
    told = {
        (query, blind): unexplained("voice.query.consul", query=query, blind=blind).code
        for query in (False, True)
        for blind in (False, True)
    }
    assert told == {
        (False, False): "left_out.not_given",
        (False, True): "left_out.anonymous",
        (True, False): "left_out.query",
        (True, True): "left_out.query",
    }
