"""Hosts, origins, bodies, headers: what passes the borders, by every method (C54-C57, C64, C71)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from lictor.core.config.settings import TlsSettings, WebSettings
from lictor.web.auth.audit import AuditQuery
from lictor.web.auth.rights import Role
from lictor.web.borders import MAX_BODY
from lictor.web.origins import Origins
from tests.web.auth.support import HOST, PASSWORD, bearer, client, opened, small_app, somebody

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]


# --- Host ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
async def test_a_name_that_is_not_ours_is_refused_by_every_method(office, method):
    async with client(office) as web:
        for host in ("evil.example", "evil.example:7031", "localhost.evil.example", "192.0.2.7"):
            answer = await web.request(method, "/open", headers={"Host": host})
            assert answer.status_code == 421, (method, host)


@pytest.mark.parametrize(
    "host",
    [
        *("", " ", "a b", "127.0.0.1:x", "127.0.0.1:99999", "127.0.0.1:0", "127.0.0.1/", "a@b"),
        *("127.0.0.1:7031/x", "[::1", "[::1]x", "127.0.0.1#", "127.0.0.1?x", "\xe9", "a\\b", "..."),
        "x" * 300,
    ],
)
async def test_odd_bytes_in_the_host_are_refused_first(office, host):
    async with client(office) as web:
        answer = await web.get("/open", headers=[(b"Host", host.encode("latin-1"))])
    assert answer.status_code == 400


async def test_two_hosts_are_refused(office):
    async with client(office) as web:
        answer = await web.get("/open", headers=[("Host", HOST), ("Host", "evil.example")])
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "LOCALHOST:9000", "localhost.", "[::1]:7031", "lictor.example.org"],
)
async def test_our_names_are_taken_with_any_port(office, host):
    settings = WebSettings(allowed_hosts=("Lictor.example.org",))
    async with client(office, web=settings) as web:
        assert (await web.get("/open", headers={"Host": host})).status_code == 200


async def test_the_address_that_was_connected_to_is_ours(office):
    async with client(office, base="http://198.51.100.4:7031") as web:
        assert (await web.get("/open")).status_code == 200
    async with client(office, base="http://lictor.example.org") as web:
        assert (await web.get("/open")).status_code == 421


# --- Origin ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
async def test_a_page_of_another_origin_gets_nothing_by_any_method(office, method):
    origins = [
        *("http://evil.example", "null", "http://127.0.0.1:8000", "https://127.0.0.1:7031"),
        *(f"http://{HOST}.evil.example", f"http://x@{HOST}", f"http://{HOST}/", "", "file://"),
    ]
    async with client(office) as web:
        for origin in origins:
            answer = await web.request(method, "/open", headers={"Origin": origin})
            assert answer.status_code == 403, (method, origin)
            assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("site", ["cross-site", "same-site", "nonsense"])
async def test_what_a_browser_says_of_the_asking_page_is_believed(office, site):
    async with client(office) as web:
        for method in ("GET", "POST"):
            answer = await web.request(method, "/open", headers={"Sec-Fetch-Site": site})
            assert answer.status_code == 403
        framed = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
        assert (await web.get("/open", headers=framed)).status_code == 403
        followed = {**framed, "Sec-Fetch-Dest": "document"}
        assert (await web.get("/open", headers=followed)).status_code == 200
        assert (await web.post("/change", headers=followed)).status_code == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
async def test_an_origin_of_ours_that_the_browser_calls_foreign_is_refused(office, site):
    headers = {"Origin": f"http://{HOST}", "Sec-Fetch-Site": site}
    async with client(office) as web:
        assert (await web.get("/open", headers=headers)).status_code == 403


async def test_our_own_pages_may_ask(office):
    token = await somebody(office, "anna", Role.USER)
    ours = {"Origin": f"http://{HOST}", "Sec-Fetch-Site": "same-origin", **bearer(token)}
    async with client(office) as web:
        assert (await web.post("/change", json={"name": "a"}, headers=ours)).status_code == 200
        tunnel = {"Origin": "http://localhost:9000", "Host": "localhost:9000"}
        assert (await web.get("/open", headers=tunnel)).status_code == 200


async def test_an_origin_of_the_config_may_ask_and_read(office):
    settings = WebSettings(cors_origins=("https://panel.example.org",))
    page = {"Origin": "https://panel.example.org", "Sec-Fetch-Site": "cross-site"}
    async with client(office, web=settings) as web:
        answer = await web.get("/open", headers=page)
        assert answer.headers["access-control-allow-origin"] == "https://panel.example.org"
        assert "access-control-allow-credentials" not in answer.headers
        before = await web.options(
            "/change", headers={**page, "Access-Control-Request-Method": "POST"}
        )
        assert before.status_code == 204
        assert "authorization" in before.headers["access-control-allow-headers"]
        other = await web.get("/open", headers={"Origin": "https://evil.example"})
        assert other.status_code == 403


# --- bodies ----------------------------------------------------------------------------------


async def test_a_body_is_json_and_nothing_else(office):
    token = await somebody(office, "anna", Role.USER)
    async with client(office) as web:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
            answer = await web.post(
                "/change", content=b'{"name": "a"}', headers={"Content-Type": kind, **bearer(token)}
            )
            assert answer.status_code == 415, kind
        packed = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        answer = await web.post("/change", content=b"{}", headers={**packed, **bearer(token)})
        assert answer.status_code == 415


async def test_a_body_that_is_too_large_is_refused_announced_or_not(office):
    token = await somebody(office, "anna", Role.USER)
    headers = {"Content-Type": "application/json", **bearer(token)}

    async def drops():
        for _ in range(400):
            yield b"x" * 1024

    async with client(office) as web:
        announced = await web.post("/change", content=b"x" * (MAX_BODY + 1), headers=headers)
        streamed = await web.post("/change", content=drops(), headers=headers)
        assert (announced.status_code, streamed.status_code) == (413, 413)
        # What is left of the body is not read, so nothing else may be on the connection.
        assert announced.headers["connection"] == streamed.headers["connection"] == "close"
        lied = await web.post("/change", content=b"{}", headers={**headers, "Content-Length": "-1"})
        assert lied.status_code == 400


@pytest.mark.parametrize("content", [b"[" * 20_000, b'{"a":' * 20_000, b"\xff\xfe", b"{", b'"x"'])
async def test_hostile_json_is_the_callers_fault(office, content):
    token = await somebody(office, "anna", Role.USER)
    headers = {"Content-Type": "application/json", **bearer(token)}
    async with client(office) as web:
        answer = await web.post("/change", content=content, headers=headers)
    assert answer.status_code in {400, 422}


async def test_credentials_in_a_url_are_refused(office):
    token = await somebody(office, "anna", Role.USER)
    async with client(office) as web:
        for query in (f"token={token}", "a=1&access_token=x", "password=x", "API_KEY=x"):
            answer = await web.get(f"/logs?{query}")
            assert answer.status_code == 400
            assert token not in answer.text
        assert (await web.get("/logs?search=token", headers=bearer(token))).status_code == 200


# --- headers ---------------------------------------------------------------------------------


async def test_every_answer_carries_the_security_headers(office):
    async with client(office) as web:
        answers = [
            await web.get("/open"),
            await web.get("/logs"),
            await web.get("/nowhere"),
            await web.get("/fault"),
            await web.get("/open", headers={"Host": "evil.example"}),
            await web.post("/change", content=b"x"),
        ]
    assert [answer.status_code for answer in answers] == [200, 401, 404, 500, 421, 415]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-" not in policy
        assert "*" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers
    for answer in answers[1:]:
        assert answer.headers["content-type"].startswith("application/problem+json")


async def test_many_ranges_are_as_if_none_was_asked_for(office):
    ranges = "bytes=" + ",".join(f"{n}-{n}" for n in range(10_000))
    async with client(office) as web:
        assert (await web.get("/open", headers={"Range": ranges})).status_code == 200


# --- behind a proxy --------------------------------------------------------------------------


FORWARDED = {
    "X-Forwarded-For": "203.0.113.9, 198.51.100.20",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "lictor.example.org",
}


async def test_a_proxy_on_loopback_is_believed_if_the_config_says_so(office):
    settings = WebSettings(behind_proxy=True, allowed_hosts=("lictor.example.org",))
    async with client(office, web=settings) as web:
        page = {**FORWARDED, "Origin": "https://lictor.example.org"}
        answer = await web.get("/open", headers=page)
        assert answer.json() == {"scheme": "https", "remote": "198.51.100.20"}
        await office.people.create("anna", Role.USER, PASSWORD)
        said = {"username": "anna", "password": PASSWORD}
        login = await web.post("/admin/auth/login", json=said, headers=page)
        assert all("Secure" in cookie for cookie in login.headers.get_list("set-cookie"))
        evil = {**FORWARDED, "X-Forwarded-Host": "evil.example"}
        assert (await web.get("/open", headers=evil)).status_code == 421


async def test_nobody_else_is_believed(office):
    settings = WebSettings(behind_proxy=True, allowed_hosts=("lictor.example.org",))
    async with client(office, web=settings, peer="198.51.100.7") as web:
        answer = await web.get("/open", headers=FORWARDED)
        assert answer.json() == {"scheme": "http", "remote": "198.51.100.7"}
    async with client(office) as web:
        answer = await web.get("/open", headers=FORWARDED)
        assert answer.json() == {"scheme": "http", "remote": "127.0.0.1"}


@pytest.mark.parametrize("stripped", [True, False])
async def test_it_works_below_a_path_whether_the_proxy_takes_it_away_or_not(office, stripped):
    await office.people.create("anna", Role.USER, PASSWORD)
    settings = WebSettings(base_path="/lictor")
    before = "" if stripped else "/lictor"
    async with client(office, web=settings) as web:
        assert (await web.get(f"{before}/open")).status_code == 200
        said = {"username": "anna", "password": PASSWORD}
        login = await web.post(f"{before}/admin/auth/login", json=said)
        paths = {
            cookie.split("Path=")[1].split(";")[0]
            for cookie in login.headers.get_list("set-cookie")
        }
        assert paths == {"/lictor/", "/lictor/admin/auth"}


def test_https_is_known_by_the_certificate():
    secure = Origins(secure=TlsSettings(Path("c"), Path("k")) is not None)
    scope = {
        "type": "http",
        "method": "GET",
        "headers": [(b"host", b"localhost"), (b"origin", b"https://localhost")],
        "client": ("198.51.100.7", 1),
        "server": ("127.0.0.1", 7031),
    }
    assert secure.judge(scope).scheme == "https"


# --- what is written down --------------------------------------------------------------------


async def lines(office):
    return list(reversed(await office.audit.lines(AuditQuery(limit=1000))))


async def test_every_change_is_written_down_with_who_from_where_and_what(office):
    token = await somebody(office, "anna", Role.USER)
    guest = await somebody(office, "gast", Role.GUEST)
    async with client(office, peer="198.51.100.7", base="http://127.0.0.1") as web:
        await web.get("/logs", headers=bearer(token))
        await web.post("/change", json={"name": "piper"}, headers=bearer(token))
        await web.post("/change", json={"services": ["a", "b"]}, headers=bearer(guest))
        await web.post("/change", json={"name": "x"})
        said = {"username": "anna", "password": "hunter2-is-wrong"}
        await web.post("/admin/auth/login", json=said)
    found = await lines(office)
    told = [(x.who, x.remote, x.action, x.target, x.outcome, x.status) for x in found]
    assert told == [
        ("anna", "198.51.100.7", "POST /change", "piper", "ok", 200),
        ("gast", "198.51.100.7", "POST /change", "a, b", "denied", 403),
        ("anna", "198.51.100.7", "POST /admin/auth/login", "anna", "denied", 401),
    ]
    assert "hunter2" not in json.dumps([line.plain() for line in found])


async def test_guesses_that_were_not_even_looked_at_push_no_line_out(office):
    """Whoever tries a thousand passwords is written down a few times, not a thousand."""
    async with client(office) as web:
        answers = []
        while 429 not in answers:
            said = {"username": "admin", "password": f"guess-{len(answers)}"}
            answers.append((await web.post("/admin/auth/login", json=said)).status_code)
    found = await lines(office)
    assert [(line.who, line.outcome) for line in found] == [("admin", "denied")] * answers.count(
        401
    )
    assert len(answers) == answers.count(401) + 1


async def test_the_log_is_filtered_exported_and_shortened(office):
    admin = bearer(await somebody(office, "chief", Role.ADMIN))
    anna = bearer(await somebody(office, "anna", Role.USER))
    async with client(office) as web:
        for name in ("piper", "=cmd()", "vllm"):
            await web.post("/change", json={"name": name}, headers=anna)
        assert (await web.get("/admin/audit", headers=anna)).status_code == 403
        every = (await web.get("/admin/audit?limit=2", headers=admin)).json()
        assert [entry["target"] for entry in every["entries"]] == ["vllm", "=cmd()"]
        rest = (await web.get(f"/admin/audit?before={every['next']}", headers=admin)).json()
        assert [entry["target"] for entry in rest["entries"]] == ["piper"]
        assert rest["next"] is None
        for query in ("target=piper", "search=PIPER", "who=anna&until=99999999999&action=POST"):
            one = (await web.get(f"/admin/audit?{query}", headers=admin)).json()["entries"]
            assert "piper" in [entry["target"] for entry in one]
        nobody = (await web.get("/admin/audit?who=anna'--&outcome=ok", headers=admin)).json()
        assert nobody["entries"] == []
        as_lines = await web.get("/admin/audit/export", headers=admin)
        assert len([json.loads(line) for line in as_lines.text.splitlines()]) == 3
        as_csv = await web.get("/admin/audit/export?format=csv", headers=admin)
        assert ",'=cmd()," in as_csv.text
        done = await web.post("/admin/audit/cleanup", json={"older_than_days": 0}, headers=admin)
        assert done.json()["deleted"] == 3
        left = (await web.get("/admin/audit", headers=admin)).json()["entries"]
        assert [entry["action"] for entry in left] == ["POST /admin/audit/cleanup"]


async def test_the_log_is_also_told_to_the_journal(tmp_path):
    told = []
    async with opened(tmp_path / "d", journal=told.append) as office:
        anna = bearer(await somebody(office, "anna", Role.USER))
        async with client(office) as web:
            await web.post("/change", json={"name": "piper"}, headers=anna)
    assert [(line.who, line.target) for line in told] == [("anna", "piper")]


async def test_a_body_that_never_comes_is_given_up(office, monkeypatch):
    monkeypatch.setattr("lictor.web.borders.BODY_SECONDS", 0.2)
    from lictor.web.guarded import furnish, guarded

    app = small_app()
    furnish(app, office)
    around = guarded(app, office, WebSettings())
    sent = []

    async def never():
        await asyncio.sleep(60)

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/change",
        "query_string": b"",
        "headers": [
            (b"host", HOST.encode()),
            (b"content-type", b"application/json"),
            (b"content-length", b"10"),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 7031),
    }
    await asyncio.wait_for(around(scope, never, send), 10)
    assert sent[0]["status"] == 408


async def test_no_answer_of_the_people_holds_a_secret(office):
    admin = bearer(await somebody(office, "chief", Role.ADMIN))
    async with client(office) as web:
        made = await web.post("/admin/tokens", json={"name": "t", "role": "guest"}, headers=admin)
        text = made.json()["token"]
        new = {"username": "boris", "password": PASSWORD, "role": "user"}
        created = await web.post("/admin/users", json=new, headers=admin)
        assert created.status_code == 201
        pages = [made_text.text for made_text in await every_page(web, admin)]
    everything = "".join([*pages, created.text])
    for secret in (text, text.split("_", 2)[2], PASSWORD, "$argon2", "digest"):
        assert secret not in everything


async def every_page(web: httpx.AsyncClient, headers: dict[str, str]) -> list[httpx.Response]:
    paths = ["/admin/users", "/admin/tokens", "/admin/audit", "/admin/audit/export"]
    return [await web.get(path, headers=headers) for path in [*paths, "/admin/auth/me"]]
