"""The OpenAPI document, and the pages of the reference that repeat it.

After a change of a route: `LICTOR_WRITE_REFERENCE=1 pytest tests/web/test_description.py` writes
`docs/reference/openapi.json` anew; the line in `docs/reference/api.md` is written by hand.
"""

from __future__ import annotations

import json
import os
import re

from tests.support.tree import ROOT
from tests.support.web import Site

KEPT = ROOT / "docs" / "reference" / "openapi.json"
PAGE = ROOT / "docs" / "reference" / "api.md"


def test_the_document_of_the_reference_is_that_of_the_agent(site: Site):
    document = site.admin.get("/openapi.json").json()
    text = json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    if os.environ.get("LICTOR_WRITE_REFERENCE"):
        KEPT.write_text(text)
    assert json.loads(KEPT.read_text()) == document


def test_every_route_has_its_line_on_the_page(site: Site):
    page = PAGE.read_text()
    document = site.admin.get("/openapi.json").json()
    lines = set(re.findall(r"`(GET|POST|PUT|PATCH|DELETE) ([^`?]*)", page))
    routes = {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method in operations
    }
    assert sorted(routes - lines) == []
    assert sorted(lines - routes) == []


def test_only_who_has_come_in_reads_the_document(site: Site):
    assert site.anybody().get("/openapi.json").status_code == 401
