"""Passwords, guesses, Basic, API tokens, links: how people and programs come in, and who does not."""

from __future__ import annotations

import asyncio
import base64
import stat
import statistics
import time

import pytest

from lictor.core.errors import OperationFailed, Refused, UsageError
from lictor.web.auth.errors import NotSignedIn, TooManyTries
from lictor.web.auth.guessing import FREE_TRIES, Guesses
from lictor.web.auth.passwords import Passwords
from lictor.web.auth.rights import Right, Role
from lictor.web.auth.secretfile import session_secret
from tests.web.auth.support import PASSWORD, Clock, bearer, client, opened, somebody


def basic(name: str, password: str) -> dict[str, str]:
    pair = base64.b64encode(f"{name}:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


# --- the first start -------------------------------------------------------------------------


async def test_the_first_start_writes_the_admins_password_for_its_owner_only(tmp_path):
    async with opened(tmp_path / "d") as office:
        file = tmp_path / "d" / "admin-password"
        password = file.read_text().strip()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "d" / "people.db").stat().st_mode) == 0o600
        assert len(password) >= 24
        async with client(office) as web:
            said = {"username": "admin", "password": password}
            answer = await web.post("/admin/auth/login", json=said)
            assert answer.status_code == 200
            assert answer.json().items() >= {"token_type": "bearer", "expires_in": 900}.items()
            assert file.exists()
            change = {"current_password": password, "new_password": PASSWORD}
            done = await web.post("/admin/auth/password", json=change)
            assert done.status_code == 200
        assert not file.exists()
    async with opened(tmp_path / "d") as office:
        assert not file.exists()  # it is made once
        assert await office.people.check("admin", PASSWORD)
        assert not await office.people.check("admin", password)


async def test_no_password_is_in_the_database(office, tmp_path):
    await office.people.create("anna", Role.USER, PASSWORD)
    _, token = await office.tokens.create("t", user="anna", role=None)
    given = await office.sessions.begin(office.people.named("anna"))
    for path in (tmp_path / "d").glob("people.db*"):
        content = path.read_bytes()
        for secret in (
            PASSWORD,
            token,
            token.split("_", 2)[2],
            given.access,
            given.renewal.partition(".")[2],
        ):
            assert secret.encode() not in content


@pytest.mark.parametrize("damage", [b"nonsense" * 1000, b"SQLite format 3\0" + b"x" * 5000])
async def test_a_damaged_file_is_set_aside_and_locks_nobody_out(tmp_path, damage):
    folder = tmp_path / "d"
    async with opened(folder) as office:
        await somebody(office, "anna", Role.ADMIN)
        before = (folder / "admin-password").read_text()
    for suffix in ("-wal", "-shm"):
        (folder / f"people.db{suffix}").unlink(missing_ok=True)
    (folder / "people.db").write_bytes(damage)
    async with opened(folder) as office:
        assert [user.name for user in office.people.all()] == ["admin"]
        password = (folder / "admin-password").read_text().strip()
        assert password != before.strip()
        assert await office.people.check("admin", password)
        assert not await office.people.check("anna", PASSWORD)
    assert list(folder.glob("people.db.damaged-*"))


# --- the secret ------------------------------------------------------------------------------


def test_the_secret_is_made_once_for_its_owner_only(tmp_path):
    secret = session_secret(tmp_path)
    assert len(secret) == 32
    assert session_secret(tmp_path) == secret
    assert stat.S_IMODE((tmp_path / "web-secret").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("text", "mode"),
    [("", 0o600), ("00" * 32, 0o600), ("ab" * 8, 0o600), ("secret", 0o600), ("", 0o644)],
)
def test_a_secret_that_is_none_is_refused_with_its_name(tmp_path, text, mode):
    session_secret(tmp_path)
    path = tmp_path / "web-secret"
    if text or mode == 0o600:
        path.write_text(text)
    path.chmod(mode)
    with pytest.raises(OperationFailed, match="web-secret"):
        session_secret(tmp_path)


# --- guessing --------------------------------------------------------------------------------


class Ticks:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def wrong(guesses: Guesses, clock: Ticks, tries: int, address: str = "a", name: str = "n") -> int:
    """How many of so many tries, one each tenth of a second, were let through."""
    let = 0
    for _ in range(tries):
        clock.now += 0.1
        try:
            guesses.enter(address, name)
        except TooManyTries:
            continue
        let += 1
    return let


def test_guesses_are_slowed_from_the_tenth():
    clock = Ticks()
    assert wrong(Guesses(clock), clock, FREE_TRIES) == FREE_TRIES
    guesses = Guesses(clock)
    let = wrong(guesses, clock, 1000)
    assert FREE_TRIES <= let <= FREE_TRIES + 8


def test_another_name_or_another_address_is_no_way_around():
    clock = Ticks()
    guesses = Guesses(clock)
    wrong(guesses, clock, 50)
    with pytest.raises(TooManyTries):
        guesses.enter("a", "another")
    with pytest.raises(TooManyTries):
        guesses.enter("another", "n")
    guesses.enter("third", "third")
    wrong(guesses, clock, 50, address="2001:db8::1", name="x")
    with pytest.raises(TooManyTries):
        guesses.enter("2001:db8::2", "y")


def test_nobody_can_keep_the_owner_of_a_name_out_for_long():
    clock = Ticks()
    guesses = Guesses(clock)
    for n in range(2000):
        clock.now += 0.1
        try:
            guesses.enter(f"10.0.{n % 250}.{n // 250}", "anna")
        except TooManyTries:
            continue
    clock.now += 5.1
    guesses.enter("192.0.2.1", "anna")


def test_a_sign_in_of_ones_own_washes_no_guesses_away():
    clock = Ticks()
    guesses = Guesses(clock)
    let = 0
    for _ in range(200):
        let += wrong(guesses, clock, 4, name="victim")
        try:
            guesses.enter("a", "me")
        except TooManyTries:
            continue
        guesses.forgive("a", "me")
    assert let < 40


async def test_a_thousand_guesses_at_once_cost_few_hashes(office, monkeypatch):
    checked = 0
    check = Passwords.check

    async def counting(self, password, kept):
        nonlocal checked
        checked += 1
        return await check(self, password, kept)

    monkeypatch.setattr(Passwords, "check", counting)
    office.guesses._now = Ticks()  # all at the same time, however long the thousand take
    async with client(office) as web:
        asked = [
            web.post("/admin/auth/login", json={"username": "admin", "password": f"guess-{n}"})
            for n in range(1000)
        ]
        answers = [answer.status_code for answer in await asyncio.gather(*asked)]
    assert set(answers) == {401, 429}
    assert checked <= FREE_TRIES + 2
    late = [answer for answer in answers if answer == 429]
    assert len(late) >= 980


async def test_a_name_that_nobody_has_takes_as_long(office):
    await office.people.create("anna", Role.USER, PASSWORD)
    for name in ("anna", "nobody"):
        await office.people.check(name, "warm")
    took: dict[str, list[float]] = {"anna": [], "nobody": []}
    for _ in range(15):
        for name, times in took.items():
            started = time.perf_counter()
            assert await office.people.check(name, "wrong password") is None
            times.append(time.perf_counter() - started)
    known, unknown = (min(took["anna"]), min(took["nobody"]))
    assert max(known, unknown) / min(known, unknown) < 1.5, took
    medians = [statistics.median(times) for times in took.values()]
    assert max(medians) / min(medians) < 2, took


async def test_too_many_waiting_for_a_hash_are_turned_away():
    passwords = Passwords()
    results = await asyncio.gather(
        *(passwords.check("x", None) for _ in range(60)), return_exceptions=True
    )
    assert any(isinstance(one, TooManyTries) for one in results)
    assert all(one is False or isinstance(one, TooManyTries) for one in results)
    assert await passwords.check("x", None) is False


# --- Basic and bearer ------------------------------------------------------------------------


async def test_basic_is_checked_once_and_forgotten_with_the_password(office, monkeypatch):
    await office.people.create("anna", Role.USER, PASSWORD)
    checked = 0
    check = Passwords.check

    async def counting(self, password, kept):
        nonlocal checked
        checked += 1
        return await check(self, password, kept)

    monkeypatch.setattr(Passwords, "check", counting)
    async with client(office) as web:
        first = await asyncio.gather(
            *(web.get("/logs", headers=basic("anna", PASSWORD)) for _ in range(30))
        )
        assert {answer.status_code for answer in first} == {200}
        assert first[0].json()["via"] == "basic"
        assert checked == 1
        assert (await web.get("/logs", headers=basic("anna", "wrong one"))).status_code == 401
        await office.people.set_password("anna", "another long one")
        assert (await web.get("/logs", headers=basic("anna", PASSWORD))).status_code == 401
        answer = await web.get("/logs", headers=basic("anna", "another long one"))
        assert answer.status_code == 200


@pytest.mark.parametrize(
    "value",
    [
        "Basic",
        "Basic !!!",
        "Basic YQ==",
        "Digest x",
        "Bearer",
        "bearer lictor_x",
        "Basic " + "A" * 9000,
    ],
)
async def test_a_malformed_credential_is_refused_and_never_a_fault(office, value):
    async with client(office) as web:
        answer = await web.get("/logs", headers={"Authorization": value})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_a_wrong_header_is_not_passed_over_for_the_cookie(office):
    await somebody(office, "anna", Role.USER)
    given = await office.sessions.begin(office.people.named("anna"))
    cookie = f"{office.keeper.cookie}={given.access}"
    async with client(office) as web:
        good = await web.get("/logs", headers={"Cookie": cookie})
        bad = await web.get("/logs", headers={"Cookie": cookie, **bearer("x")})
    assert (good.status_code, bad.status_code) == (200, 401)


async def test_the_cookies_are_strict_and_out_of_reach_for_scripts(office):
    await office.people.create("anna", Role.USER, PASSWORD)
    said = {"username": "Anna", "password": PASSWORD}
    async with client(office) as web:
        answer = await web.post("/admin/auth/login", json=said)
        cookies = answer.headers.get_list("set-cookie")
        assert len(cookies) == 2
        for cookie in cookies:
            assert "HttpOnly" in cookie
            assert "samesite=strict" in cookie.lower()
        assert any("Path=/admin/auth" in cookie for cookie in cookies)
        assert (await web.get("/logs")).json()["via"] == "cookie"
        assert (await web.post("/admin/auth/refresh")).status_code == 200
        assert (await web.post("/admin/auth/logout")).json() == {"status": "ok"}
        assert (await web.get("/logs")).status_code == 401
        assert (await web.post("/admin/auth/refresh")).status_code == 401


async def test_too_many_wrong_passwords_by_basic_are_slowed_too(office):
    await office.people.create("anna", Role.USER, PASSWORD)
    office.guesses._now = Ticks()
    async with client(office) as web:
        answers = [
            await web.get("/logs", headers=basic("anna", f"guess-{n}"))
            for n in range(FREE_TRIES + 3)
        ]
    assert [answer.status_code for answer in answers] == [401] * FREE_TRIES + [429] * 3
    assert int(answers[-1].headers["retry-after"]) > 0


# --- tokens and links ------------------------------------------------------------------------


async def test_a_token_ends_when_it_is_revoked_or_its_user_goes(office):
    token = await somebody(office, "anna", Role.USER)
    async with client(office) as web:
        assert (await web.get("/logs", headers=bearer(token))).json()["via"] == "token"
        await office.tokens.revoke("anna-t")
        assert (await web.get("/logs", headers=bearer(token))).status_code == 401
        _, second = await office.tokens.create("second", user="anna", role=None)
        await office.people.set_role("anna", Role.GUEST)
        assert (await web.get("/logs", headers=bearer(second))).status_code == 403
        await office.people.delete("anna")
        assert (await web.get("/logs", headers=bearer(second))).status_code == 401


async def test_a_token_lasts_as_long_as_was_said_and_may_what_was_said(office):
    clock = Clock()
    office.tokens._now = clock
    _, short = await office.tokens.create("s", user=None, role=Role.ADMIN, lasts=0.3)
    _, narrow = await office.tokens.create("n", user=None, role=Role.ADMIN, only=[Right.METRICS])
    async with client(office) as web:
        assert (await web.get("/logs", headers=bearer(short))).status_code == 200
        assert (await web.get("/logs", headers=bearer(narrow))).status_code == 403
        clock.now += 0.4
        assert (await web.get("/logs", headers=bearer(short))).status_code == 401


async def test_a_guessed_token_is_refused(office):
    token, text = await office.tokens.create("t", user=None, role=Role.ADMIN)
    for forged in (f"lictor_{token.id}_{'A' * 43}", text[:-1], f"{text}A", text.upper(), "lictor_"):
        with pytest.raises(NotSignedIn):
            office.tokens.holder(forged)
    assert office.tokens.holder(text).name == "t"


async def test_a_link_lets_in_once(office):
    answer = await office.handle("dashboard", {}, "somebody")
    url, _, secret = answer["url"].partition("#link=")
    assert url == "http://127.0.0.1:7031/"
    async with client(office) as web:
        first = await web.post("/admin/auth/link", json={"secret": secret})
        assert first.json()["username"] == "admin"
        again = await web.post("/admin/auth/link", json={"secret": secret})
        assert again.status_code == 401
        assert (await web.post("/admin/auth/link", json={"secret": "x"})).status_code == 401


def test_a_link_lasts_five_minutes():
    from lictor.web.auth.links import Links

    clock = Ticks()
    links = Links(clock)
    old, new = links.make("admin"), links.make("admin")
    clock.now = 299
    assert links.take(new) == "admin"
    clock.now = 301
    with pytest.raises(NotSignedIn):
        links.take(old)


# --- users -----------------------------------------------------------------------------------


async def test_the_last_admin_stays(office):
    people = office.people
    for attempt in (
        people.delete("admin"),
        people.set_role("admin", Role.USER),
        people.set_disabled("admin", disabled=True),
    ):
        with pytest.raises(Refused, match="last admin"):
            await attempt
    await people.create("second", Role.ADMIN, PASSWORD)
    await people.delete("admin")
    with pytest.raises(Refused):
        await people.delete("second")


@pytest.mark.parametrize("name", ["", "a b", "<img>", "../x", "a" * 65, "-a", "a\n", "ü", "a:b"])
async def test_a_name_that_is_none_is_refused(office, name):
    with pytest.raises(UsageError):
        await office.people.create(name, Role.USER, PASSWORD)


@pytest.mark.parametrize("password", ["", "short", "x" * 2000])
async def test_a_password_that_is_none_is_refused_without_being_repeated(office, password):
    with pytest.raises(UsageError) as refused:
        await office.people.create("anna", Role.USER, password)
    assert not password or password not in str(refused.value)
    assert office.people.user("anna") is None


async def test_case_twins_are_one_user(office):
    await office.people.create("Anna", Role.USER, PASSWORD)
    with pytest.raises(Refused):
        await office.people.create("ANNA", Role.ADMIN, PASSWORD)
    assert (await office.people.check("aNNa", PASSWORD)).name == "anna"


async def test_a_wrong_current_password_does_not_sign_out(office):
    token = await somebody(office, "anna", Role.USER)
    given = await office.sessions.begin(office.people.named("anna"))
    change = {"current_password": "wrong one", "new_password": "another long one"}
    async with client(office) as web:
        answer = await web.post("/admin/auth/password", json=change, headers=bearer(given.access))
        assert (answer.status_code, answer.json()["code"]) == (403, "password.wrong")
        by_program = await web.post("/admin/auth/password", json=change, headers=bearer(token))
        assert by_program.status_code == 403
        assert "wrong one" not in answer.text
    assert await office.people.check("anna", PASSWORD)
