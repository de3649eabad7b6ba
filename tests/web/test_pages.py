"""The files of the dashboard: complete, as they came, and nothing inline in them."""

from __future__ import annotations

import hashlib
import re

import httpx
import pytest
from fastapi import FastAPI

from lictor.core.locales import LANGUAGES, catalogue
from lictor.web.pages import Site, make_router
from tests.support.tree import ROOT

STATIC = ROOT / "lictor" / "web" / "static"
VENDOR = STATIC / "vendor"
SOURCES = sorted(STATIC.glob("js/**/*.js"))


@pytest.fixture
async def client():
    app = FastAPI()
    app.include_router(make_router())
    door = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=door, base_url="http://lictor") as made:
        yield made


def test_each_library_is_the_one_that_the_list_names():
    listed = re.findall(
        r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \| `([0-9a-f]{64})`",
        (VENDOR / "VENDOR.md").read_text(),
        re.MULTILINE,
    )
    there = {path.name for path in VENDOR.iterdir() if path.suffix in {".mjs", ".css"}}
    assert {name for name, *_ in listed} == there
    for name, package, licence, digest in listed:
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name
        assert licence.strip() in {"MIT", "Apache-2.0"}
        short = package.split()[0].removeprefix("@").replace("/", "-")
        assert (VENDOR / f"LICENSE.{short}").is_file(), package


def test_nothing_is_asked_of_anybody_else():
    for path in (*SOURCES, *STATIC.glob("css/*.css"), STATIC / "index.html"):
        found = re.findall(r"https?://[^\s\"'`)]+", path.read_text(encoding="utf-8"))
        assert not [one for one in found if "w3.org" not in one and "^https" not in one], path


def test_the_dark_theme_is_the_same_by_choice_and_by_the_system():
    """CSS has no way to say the values once for both: what is changed in one is changed in both."""
    css = (STATIC / "css" / "theme.css").read_text(encoding="utf-8")
    chosen, auto = (
        re.findall(
            r"([a-z0-9-]+): ([^;]+);",
            css.partition(f'[data-theme="{name}"] {{')[2].partition("}")[0],
        )
        for name in ("dark", "auto")
    )
    assert len(chosen) > 30
    assert chosen == auto


def test_there_is_neither_inline_style_nor_inline_script_nor_made_up_markup():
    page = (STATIC / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", page)
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text
        )
        # An object becomes CSSOM calls, which the policy allows; a text would be an attribute.
        assert not re.search(r"\sstyle=[\"']|\sstyle=\$\{`", text), path


def test_every_module_that_is_imported_is_there():
    for path in SOURCES:
        for name in re.findall(r"from \"(\.[^\"]+)\"|import\(\"(\.[^\"]+)\"\)", path.read_text()):
            target = (path.parent / (name[0] or name[1])).resolve()
            assert target.is_file(), f"{path.name}: {target.name}"


def test_every_text_that_is_asked_for_exists_and_every_text_is_asked_for():
    texts = catalogue("en", "web")
    code = "".join(path.read_text(encoding="utf-8") for path in SOURCES)
    asked = set(re.findall(r"\bt\(\s*\"([a-z_]+\.[a-z_-]+)\"", code))
    asked |= set(re.findall(r"\"([a-z]+\.[a-z_]+)\"", code)) & texts.keys()
    assert asked <= texts.keys()
    families = set(re.findall(r"\bt\(\s*`([a-z_.]+)\$\{", code))
    used = asked | {key for key in texts if any(key.startswith(stem) for stem in families)}
    assert texts.keys() == used


async def test_the_page_names_files_that_may_be_kept_for_ever(client):
    page = await client.get("/")
    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-cache"
    named = re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text)
    assert len(named) > 10
    for name in named:
        assert not name.startswith("/"), "an absolute path would not work below a base path"
        answer = await client.get(f"/{name}")
        assert answer.status_code == 200, name
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers.get("content-encoding") == "gzip" or len(answer.content) <= 1024


async def test_a_file_of_another_version_is_answered_and_not_kept(client):
    answer = await client.get("/static/0123456789ab/js/app.js")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["content-type"].startswith("text/javascript")


@pytest.mark.parametrize(
    "name", ["../../pages.py", "index.html", "js", "js/none.js", "%2e%2e/app.py"]
)
def test_nothing_but_the_files_of_the_dashboard_is_served(name):
    assert name not in Site().assets


@pytest.mark.parametrize("language", LANGUAGES)
async def test_the_words_come_as_one_file_for_each_language(client, language):
    version = Site().version
    texts = (await client.get(f"/static/{version}/locales/{language}.json")).json()
    assert texts["web"] == catalogue(language, "web")
    assert texts["reasons"] == catalogue(language, "reasons")


async def test_what_the_first_page_needs_is_small(client):
    page = (await client.get("/")).text
    names = re.findall(r"(?:src|href)=\"(static/[^\"]+)\"", page)
    site = Site()
    loaded = {name.split("/", 2)[2] for name in names}
    packed = sum(len(site.assets[name].packed or site.assets[name].plain) for name in loaded)
    assert packed < 60_000, f"{packed} bytes"
    assert "vendor/uplot.mjs" not in loaded


def test_the_logo_is_a_picture_without_script():
    assert not re.search(r"<script|\son[a-z]+=|href", (STATIC / "img/lictor.svg").read_text())


def test_the_same_words_stand_for_the_same_things_on_the_command_line():
    for language in LANGUAGES:
        cli, web = catalogue(language, "cli"), catalogue(language, "web")
        for key in web:
            if key.startswith(("phase.", "health.")):
                assert web[key] == cli[key], f"{language} {key}"
