"""Which service is another one under a new name, and whether both may run meanwhile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lictor.core.model.container import ContainerSpec
from lictor.core.model.gpu import GpuSpec
from lictor.core.model.names import ServiceKey
from lictor.core.model.spec import ServiceSpec
from lictor.core.planning.succession import renamed, side_by_side


def made(name: str, port: int | None = 5000, **fields: object) -> ServiceSpec:
    command = ("serve", "--name", name, "--port", str(port))
    base = ServiceSpec(key=ServiceKey.parse(name), port=port, command=command)
    return replace(base, **fields)


def pairs(before: list[ServiceSpec], after: list[ServiceSpec]) -> dict[str, str]:
    found = renamed({s.key: s for s in before}, {s.key: s for s in after})
    return {str(old): str(new) for old, new in found.items()}


def test_the_same_program_under_another_name_or_port_is_renamed():
    assert pairs([made("old")], [made("new")]) == {"old": "new"}
    assert pairs([made("old")], [made("new", 5001)]) == {"old": "new"}
    assert pairs([made("old"), made("x", 1234)], [made("x", 1234), made("new")]) == {"old": "new"}


@pytest.mark.parametrize(
    "other",
    [
        {"command": ("serve", "--other")},
        {"cwd": "/elsewhere"},
        {"driver": "observed"},
        {"before": (("migrate",),)},
        {"docker": ContainerSpec("image")},
        {"env": {"MODEL": "large", "PATH": "/bin"}, "env_names": ("MODEL",)},
    ],
)
def test_what_runs_something_else_is_another_service(other):
    assert pairs([made("old")], [made("new", **other)]) == {}


def test_nothing_is_renamed_that_is_still_there_or_was_there_before():
    assert pairs([made("old")], [made("old"), made("new", 5001)]) == {}
    assert pairs([made("old"), made("x", 5001)], [made("x", 5001)]) == {}


def test_each_takes_over_from_one_and_the_nearest_is_chosen():
    before = [made("old@a", 5000), made("old@b", 5001)]
    after = [made("new@b", 5001), made("new@a", 5000)]
    assert pairs(before, after) == {"old@a": "new@a", "old@b": "new@b"}
    # One heir for two: the first in the file, and the other just ends.
    assert pairs([made("one"), made("two", 5001)], [made("new", 5001)]) == {"one": "new"}
    two = [made("new", 6000), made("same-port", 5000)]
    assert pairs([made("old", 5000)], two) == {"old": "same-port"}


def test_an_observed_service_is_known_by_its_place():
    def seen(name: str, port: int = 5000, **fields: object) -> ServiceSpec:
        return made(name, port, driver="observed", command=(), **fields)

    assert pairs([seen("old")], [seen("new")]) == {"old": "new"}
    assert pairs([seen("old")], [seen("new", 5001)]) == {}
    assert pairs([seen("old")], [seen("new", address="10.0.0.2")]) == {}


def test_a_program_may_be_called_like_the_service():
    words = ("-m", "piper.http_server", "--data", "/data/{}", "--port")
    old = made("piper", 5000, command=(*(w.format("piper") for w in words), "5000"))
    new = made("speech", 5001, command=(*(w.format("speech") for w in words), "5001"))
    assert pairs([old], [new]) == {"piper": "speech"}
    assert pairs([made("a")], [made("b")]) == {"a": "b"}
    whisper = made("speech", 5001, command=("-m", "whisper", "--data", "/data/x", "--port", "5001"))
    assert pairs([old], [whisper]) == {}


@pytest.mark.parametrize(
    ("old", "new", "together"),
    [
        (made("old", 1000), made("new", 2000), True),
        (made("old", 1000), made("new", 1000), False),
        (made("old", 1000), made("new", 1000, host="127.0.0.2"), True),
        (made("old", 1000), made("new", 1000, host="0.0.0.0"), False),
        (made("old", None), made("new", None), False),  # two of one bot
        (made("old", 1000, gpu=GpuSpec()), made("new", 2000, gpu=GpuSpec()), False),
        (made("old", 1000), made("new", 1000, driver="observed"), True),
        (
            made("old", 1000, docker=ContainerSpec("i", name="c")),
            made("new", 2000, docker=ContainerSpec("i", name="c")),
            False,
        ),
    ],
)
def test_both_run_meanwhile_only_where_they_do_not_need_the_same(old, new, together):
    assert side_by_side(old, new) is together


def test_the_same_value_for_another_variable_is_another_service():
    one = {"env": {"MODEL": "large"}, "env_names": ("MODEL",)}
    other = {"env": {"VOICE": "large"}, "env_names": ("VOICE",)}
    assert pairs([made("old", **one)], [made("new", **one)]) == {"old": "new"}
    assert pairs([made("old", **one)], [made("new", **other)]) == {}
