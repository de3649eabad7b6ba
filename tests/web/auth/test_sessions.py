"""Access tokens and sessions under attack: each of these must be a 401, and at once (C61)."""

from __future__ import annotations

import base64
import json
import time

import jwt
import pytest

from lictor.web.auth.errors import NotSignedIn
from lictor.web.auth.rights import Role
from lictor.web.auth.secretfile import session_secret
from lictor.web.auth.sessions import ACCESS_SECONDS, Sessions
from tests.web.auth.support import AGENT_ID, PASSWORD, Clock, bearer, client, opened, somebody


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def taken(office, token) -> bool:
    try:
        office.sessions.holder(token)
    except NotSignedIn:
        return False
    return True


async def granted(office, name="anna", role=Role.USER):
    await somebody(office, name, role)
    return await office.sessions.begin(office.people.named(name))


async def test_a_session_token_lets_its_user_in(office):
    given = await granted(office)
    async with client(office) as web:
        answer = await web.get("/logs", headers=bearer(given.access))
    assert answer.json() == {"name": "anna", "via": "bearer", "remote": "127.0.0.1"}


async def test_forged_tokens_are_refused(office, tmp_path):
    given = await granted(office)
    assert taken(office, given.access)
    secret = session_secret(tmp_path / "d")
    claims = jwt.decode(given.access, secret, algorithms=["HS256"], options={"verify_iss": False})
    head, body, signature = given.access.split(".")
    none = part({"alg": "none", "typ": "JWT"})
    without_end = {k: v for k, v in claims.items() if k != "exp"}
    forged = {
        "no algorithm": f"{none}.{body}.",
        "no algorithm, old signature": f"{none}.{body}.{signature}",
        "another hash": jwt.encode(claims, secret + secret, algorithm="HS512"),
        "another hash, right key": jwt.encode(claims, secret.ljust(64, b"x"), algorithm="HS512"),
        "another key": jwt.encode(claims, b"k" * 32, algorithm="HS256"),
        "no signature": f"{head}.{body}.",
        "another body": f"{head}.{part({**claims, 'sub': 'admin'})}.{signature}",
        "an asymmetric name": f"{part({'alg': 'RS256', 'typ': 'JWT'})}.{body}.{signature}",
        "expired": jwt.encode({**claims, "exp": time.time() - 60}, secret),
        "not yet": jwt.encode({**claims, "nbf": time.time() + 600}, secret),
        "from the future": jwt.encode({**claims, "iat": time.time() + 600}, secret),
        "for ever": jwt.encode(without_end, secret),
        "another agent's": jwt.encode({**claims, "iss": "another"}, secret),
        "another name": jwt.encode({**claims, "sub": "admin"}, secret),
        "no such session": jwt.encode({**claims, "sid": "x"}, secret),
        "a session of another kind": jwt.encode({**claims, "sid": ["x"]}, secret),
        "no list of claims": f"{head}.{part([1])}.{signature}",
        "long": given.access + "A" * 100_000,
        "empty": "",
        "bytes": "é\x00.a.b",
    }
    for name, token in forged.items():
        assert not taken(office, token), name
    async with client(office) as web:
        for name, token in forged.items():
            if not token.isprintable() or not token.isascii():
                continue
            assert (await web.get("/logs", headers=bearer(token))).status_code == 401, name


async def test_an_expired_token_is_refused_and_the_session_can_be_renewed(tmp_path):
    async with opened(tmp_path / "d") as office:
        clock = Clock()
        clock.now = time.time() - ACCESS_SECONDS - 30
        sessions = Sessions(
            office._db,
            office.people,
            secret=session_secret(tmp_path / "d"),
            issuer=AGENT_ID,
            now=clock,
        )
        await somebody(office, "anna", Role.USER)
        given = await sessions.begin(office.people.named("anna"))
        with pytest.raises(NotSignedIn, match="expired"):
            sessions.holder(given.access)
        clock.now = time.time()
        renewed = await sessions.renew(given.renewal)
        assert sessions.holder(renewed.access)[0].name == "anna"


@pytest.mark.parametrize("what", ["demoted", "deleted", "disabled", "new password", "logged out"])
async def test_what_happens_to_a_user_counts_at_once(office, what):
    given = await granted(office)
    people = office.people
    async with client(office) as web:
        cookie = {"Cookie": f"{office.keeper.cookie}={given.access}"}
        person = (await web.get("/logs", headers=cookie)).json()
        assert person["via"] == "cookie"
        if what == "demoted":
            await people.set_role("anna", Role.GUEST)
        elif what == "deleted":
            await people.delete("anna")
            await people.create(
                "anna", Role.ADMIN, PASSWORD
            )  # the same name is not the same person
        elif what == "disabled":
            await people.set_disabled("anna", disabled=True)
        elif what == "new password":
            await people.set_password("anna", "another long one")
        else:
            await web.post("/admin/auth/logout", headers=bearer(given.access))
        status = 403 if what == "demoted" else 401
        assert (await web.get("/logs", headers=bearer(given.access))).status_code == status
        assert (await web.get("/logs", headers=cookie)).status_code == status
    if what != "demoted":
        with pytest.raises(NotSignedIn):
            await office.sessions.renew(given.renewal)


async def test_an_open_stream_learns_that_its_person_is_gone(office):
    given = await granted(office)
    user, session = office.sessions.holder(given.access)
    person = office.keeper._person(user, "cookie", "", f"session:{session}")
    assert office.keeper.still(person)
    await office.people.set_role("anna", Role.GUEST)
    assert not office.keeper.still(person)


async def test_an_open_stream_learns_that_the_agent_is_of_another_mode(tmp_path):
    """A reload may turn it into `cloud`, where less is shown to some."""
    mode = ["full"]
    async with opened(tmp_path / "d", mode=lambda: mode[0]) as office:
        given = await granted(office)
        user, session = office.sessions.holder(given.access)
        person = office.keeper._person(user, "cookie", "", f"session:{session}")
        assert office.keeper.still(person)
        mode[0] = "cloud"
        assert not office.keeper.still(person)


async def test_a_renewal_cookie_that_is_used_again_ends_the_session(tmp_path):
    async with opened(tmp_path / "d") as office:
        clock = Clock()
        clock.now = time.time()
        secret = session_secret(tmp_path / "d")
        sessions = Sessions(office._db, office.people, secret=secret, issuer=AGENT_ID, now=clock)
        await somebody(office, "anna", Role.USER)
        first = await sessions.begin(office.people.named("anna"))
        second = await sessions.renew(first.renewal)
        # Another tab at the same moment: it gets in, and the new cookie stays the new one.
        assert (await sessions.renew(first.renewal)).renewal == ""
        clock.now += 120
        with pytest.raises(NotSignedIn):
            await sessions.renew(first.renewal)
        with pytest.raises(NotSignedIn):
            await sessions.renew(second.renewal)


async def test_sessions_outlive_the_agent(tmp_path):
    async with opened(tmp_path / "d") as office:
        given = await granted(office)
    async with opened(tmp_path / "d") as office:
        assert office.sessions.holder(given.access)[0].name == "anna"
        await office.sessions.renew(given.renewal)


async def test_a_person_has_a_bounded_number_of_sessions(office):
    first = await granted(office)
    user = office.people.named("anna")
    for _ in range(60):
        await office.sessions.begin(user)
    assert len(office.sessions._sessions) <= 51
    with pytest.raises(NotSignedIn):
        office.sessions.holder(first.access)
