"""What the catalog said of our node: known, not known, and what follows."""

from lictor.core.model.registration import CheckDef, Registration
from lictor.core.runtime.registry.catalog_view import CatalogView

TTS, VOICE = "lictor:host1:tts", "lictor:host1:group:voice:tts"
PASSING = {
    "serfHealth": ("passing", ""),
    f"{TTS}:http": ("passing", "200 OK"),
    f"{TTS}:lictor": ("warning", "Ready."),
    f"{VOICE}:alias": ("passing", ""),
}
ENTRY = Registration(
    TTS,
    "tts",
    "127.0.0.1",
    5000,
    checks=tuple(CheckDef(f"{TTS}:{k}", k, k) for k in ("http", "ttl")),
)


def heard(checks) -> CatalogView:
    view = CatalogView()
    view.hear(checks)
    return view


def test_before_the_first_answer_and_after_a_broken_watch_nothing_is_known():
    view = CatalogView()
    broken = heard(PASSING)
    broken.forget()
    for unknown in (view, broken):
        assert unknown.has(TTS) is None
        assert not unknown.gives_out(TTS)
        assert unknown.passes(ENTRY)  # nobody is replaced for what nobody knows
        assert unknown.about(TTS) == {}
        assert not unknown.lost({}, "lictor:")


def test_an_entry_is_there_by_the_one_check_that_each_kind_of_entry_has():
    view = heard(PASSING)
    assert view.has(TTS)
    assert view.has(VOICE)
    assert view.has("lictor:host1:tt") is False
    assert heard({f"{TTS}:http": ("passing", "")}).has(TTS) is False


def test_an_entry_passes_if_each_of_its_checks_is_there_and_well():
    well = {f"{TTS}:http": ("passing", ""), f"{TTS}:ttl": ("warning", "")}
    assert heard(well).passes(ENTRY)
    assert not heard({**well, f"{TTS}:ttl": ("critical", "")}).passes(ENTRY)
    assert not heard({f"{TTS}:http": ("passing", "")}).passes(ENTRY)


def test_the_checks_of_one_entry_are_not_those_of_a_name_that_begins_alike():
    other = {f"{TTS}x:lictor": ("passing", "")}
    assert set(heard({**PASSING, **other}).about(TTS)) == {f"{TTS}:http", f"{TTS}:lictor"}


def test_only_a_lost_check_of_ours_counts_as_lost():
    view = heard(PASSING)
    rest = {name: it for name, it in PASSING.items() if name != "serfHealth"}
    assert not view.lost(rest, "lictor:host1:")
    assert view.lost({"serfHealth": ("passing", "")}, "lictor:host1:")
    assert not view.lost({**PASSING, "more": ("passing", "")}, "lictor:host1:")


def test_who_is_kept_out_is_news_once_and_outlives_a_broken_watch():
    view = heard(PASSING)
    down = {**PASSING, f"_service_maintenance:{TTS}": ("critical", "")}
    assert view.hear(down)
    assert not view.hear(down)
    view.forget()
    assert view.kept_out == {f"_service_maintenance:{TTS}"}
    assert view.hear(PASSING)
