"""Who answers for a group, told in examples; the rules for all cases are in tests/properties."""

from __future__ import annotations

from lictor.core.model.names import ServiceKey
from lictor.core.model.registration import CheckDef, Registration, SetStatus
from lictor.core.model.state import Health
from lictor.core.planning.groups import (
    Member,
    Standing,
    group_entry,
    judge,
    look_again,
    member,
    names_of,
    place,
)
from lictor.core.planning.registration import (
    Owner,
    Wanted,
    is_kept_out,
    kept_out,
    wanted,
)
from tests.core.build import HTTP, NOW, now_in, spec, want

OWNER = Owner("us", "host1")
RANKS = {"xtts": 10, "openvoice": 20, "piper": 30}


def group(*working: str, hold_down: float = 30.0) -> list[Member]:
    return [Member(ServiceKey(n), rank, n in working, hold_down) for n, rank in RANKS.items()]


class Clock:
    """A group whose time passes."""

    def __init__(self) -> None:
        self.now, self.standing = NOW, Standing()

    def after(self, seconds: float, *working: str, **options) -> str | None:
        self.now += seconds
        self.standing = judge(self.standing, group(*working, **options), self.now)
        return str(self.standing.best) if self.standing.best else None


def test_the_lowest_rank_that_works_is_best_and_needs_no_hold_down_at_first():
    clock = Clock()
    assert clock.after(0) is None
    assert clock.after(1, "piper") == "piper"
    assert clock.after(1, "piper", "openvoice") == "openvoice"
    assert clock.after(60, "piper", "openvoice", "xtts") == "xtts"


def test_a_failed_best_is_replaced_at_once_and_returns_after_its_hold_down():
    clock = Clock()
    assert clock.after(0, *RANKS) == "xtts"
    assert clock.after(1, "openvoice", "piper") == "openvoice"
    assert clock.after(2, *RANKS) == "openvoice"
    assert look_again(clock.standing, group(*RANKS), clock.now) == clock.now + 30.0
    assert clock.after(29, *RANKS) == "openvoice"
    assert clock.after(1, *RANKS) == "xtts"


def test_who_is_lost_again_soon_waits_twice_as_long_and_a_good_while_wipes_that():
    clock = Clock()
    clock.after(0, *RANKS)
    for wait in (30, 60, 120):
        assert clock.after(1, "openvoice", "piper") == "openvoice"
        clock.after(1, *RANKS)
        assert clock.after(wait - 1, *RANKS) == "openvoice"
        assert clock.after(1, *RANKS) == "xtts"
    assert clock.after(601, *RANKS) == "xtts"
    clock.after(0, "openvoice", "piper")
    clock.after(1, *RANKS)
    assert clock.after(30, *RANKS) == "xtts"


def test_one_that_flaps_every_three_seconds_is_promoted_at_most_once_in_a_hold_down():
    clock, promoted = Clock(), 0
    clock.after(0, *RANKS)
    last = "xtts"
    for turn in range(40):
        best = clock.after(3, *(("openvoice", "piper") if turn % 2 == 0 else RANKS), hold_down=5.0)
        promoted += best == "xtts" and last != "xtts"
        last = best or ""
    assert promoted == 0


def test_in_the_hold_down_it_still_answers_when_nobody_else_works():
    clock = Clock()
    clock.after(0, *RANKS)
    clock.after(1, "openvoice")
    clock.after(1, "openvoice", "xtts")
    assert clock.after(1, "xtts") == "xtts"


def test_when_nobody_works_the_place_stays_where_it_was():
    clock = Clock()
    clock.after(0, *RANKS)
    assert clock.after(1) == "xtts"
    assert clock.after(1, "piper") == "piper"


def test_equals_do_not_take_the_place_from_each_other():
    equals = [Member(ServiceKey(name), 7, True, 5.0) for name in ("a", "b")]
    assert judge(Standing(ServiceKey("b")), equals, NOW).best == ServiceKey("b")
    assert judge(Standing(), equals, NOW).best == ServiceKey("a")


def test_one_of_which_consul_has_not_heard_yet_takes_no_place_but_an_empty_one():
    late = Member(ServiceKey("xtts"), 10, True, 5.0, proven=False)
    piper = Member(ServiceKey("piper"), 30, True, 5.0)
    standing = judge(Standing(ServiceKey("piper")), [late, piper], NOW)
    assert standing.best == ServiceKey("piper")
    again = look_again(standing, [late, piper], NOW)
    assert again is not None
    assert NOW < again < NOW + 1
    assert judge(Standing(), [late], NOW).best == ServiceKey("xtts")
    assert judge(Standing(), [late, piper], NOW).best == ServiceKey("piper")


def test_fit_is_who_is_ready_wanted_and_passes():
    wish = want("xtts", probe=HTTP, rank=3)
    assert member(wish, now_in("ready")).fit
    assert member(wish, now_in("ready")).hold_down == 30.0
    for state in (now_in("starting"), now_in("unhealthy"), now_in("ready", failing_since=NOW)):
        assert not member(wish, state).fit
    for word in ("stopped", "maintenance"):
        assert not member(want("xtts", word, probe=HTTP), now_in("ready")).fit


def test_who_works_and_is_kept_out_of_dns_is_not_fit_and_told_so():
    wish = want("xtts", probe=HTTP, rank=3)
    aside = member(wish, now_in("ready"), kept_out=True)
    assert not aside.fit
    role, why, _ = place(Standing(), aside, None, NOW)
    assert (role, why.code) == ("out", "group.kept_out")


def test_maintenance_of_either_entry_and_named_checks_keep_a_member_out():
    entry = Registration(
        *("lictor:h:xtts", "xtts", "127.0.0.1", 1, (), {}),
        (CheckDef(check_id="lictor:h:xtts:check:store", name="store", kind="ttl"),),
    )
    wanted, under = Wanted(entry, None), "lictor:h:voice:xtts"
    bad, fine = ("critical", ""), ("passing", "")
    for check_id in (
        "_service_maintenance:lictor:h:xtts",
        "_service_maintenance:lictor:h:voice:xtts",
        "lictor:h:xtts:check:store",
    ):
        assert is_kept_out(wanted, kept_out({check_id: bad}), under)
        assert not is_kept_out(wanted, kept_out({check_id: fine}), under)
    # The verdict on its health is the runner's to judge; other entries are not this one.
    others = kept_out({"lictor:h:xtts:http": bad, "_service_maintenance:web": bad})
    assert not is_kept_out(wanted, others, under)


def test_a_named_check_that_we_found_failing_counts_before_consul_heard_of_it():
    entry = Registration("lictor:h:xtts", "xtts", "127.0.0.1", 1)
    for status, out in ((Health.CRITICAL, True), (Health.WARNING, False), (Health.PASSING, False)):
        told = (SetStatus("lictor:h:xtts:check:store", status, "asked"),)
        assert is_kept_out(Wanted(entry, None, told), frozenset()) is out


def test_the_second_entry_repeats_the_first_under_the_groups_name():
    wish = want(
        "xtts@a",
        probe=HTTP,
        port=5000,
        voice_group="voice",
        rank=3,
        tags=("gpu", "standby", "xtts"),
    )
    own = wanted(wish, now_in("ready"), OWNER, lambda reason: reason.code)
    assert own is not None
    best, waits = (group_entry(wish, own, OWNER, standby=it).registration for it in (False, True))
    assert (best.service_id, best.name, best.port) == ("lictor:host1:voice:xtts:a", "voice", 5000)
    assert best.tags == ("xtts", "gpu")
    assert waits.tags == ("xtts", "gpu", "standby")
    assert best.meta["lictor-owner"] == "us"
    assert best.meta["lictor-group"] == "voice"
    assert best.meta["lictor-member"] == "xtts@a"
    assert best.meta["lictor-hash"] != waits.meta["lictor-hash"]
    (check,) = best.checks
    assert (check.kind, check.target) == ("alias", own.registration.service_id)
    assert check.deregister_after == own.registration.checks[0].deregister_after


def test_the_groups_of_a_config_are_those_of_its_registered_services():
    specs = [
        spec("a", voice_group="voice"),
        spec("b", voice_group="voice"),
        spec("c"),
        spec("d", voice_group="quiet", registered=False),
    ]
    assert names_of(specs) == ["voice"]


def told(clock: Clock, *working: str) -> dict[str, tuple[str, str, float | None]]:
    present = group(*working)
    holder = next((each for each in present if each.key == clock.standing.best), None)
    found = {str(each.key): place(clock.standing, each, holder, clock.now) for each in present}
    return {name: (role, why.code, left) for name, (role, why, left) in found.items()}


def test_each_member_is_told_how_it_stands_and_when_it_may_take_over():
    clock = Clock()
    clock.after(0, *RANKS)
    assert told(clock, *RANKS) == {
        "xtts": ("best", "group.is_best", None),
        "openvoice": ("standby", "group.stands_by", None),
        "piper": ("standby", "group.stands_by", None),
    }
    clock.after(1, "piper")
    assert told(clock, "piper")["xtts"] == ("out", "group.out", None)
    clock.after(2, "xtts", "piper")
    clock.after(10, "xtts", "piper")
    assert told(clock, "xtts", "piper")["xtts"] == ("standby", "group.on_trial", 20.0)
    assert told(clock, "xtts", "piper")["piper"] == ("best", "group.is_best", None)
    clock.after(20, "xtts", "piper")
    assert told(clock, "xtts", "piper")["xtts"][0] == "best"
    clock.after(1)
    assert told(clock)["xtts"] == ("best", "group.keeps_place", None)


def test_who_waits_for_the_catalog_alone_is_told_so():
    late = Member(ServiceKey("xtts"), 10, fit=True, hold_down=5.0, proven=False)
    piper = Member(ServiceKey("piper"), 30, fit=True, hold_down=5.0)
    standing = judge(Standing(ServiceKey("piper")), [late, piper], NOW)
    role, why, left = place(standing, late, piper, NOW)
    assert (role, why.code, left) == ("standby", "group.unproven", None)
