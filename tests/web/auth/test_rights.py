"""The table of rights says what the threat model says, and no route is outside of it."""

from __future__ import annotations

import pytest
from fastapi import FastAPI

from lictor.core.errors import NotPermitted
from lictor.web.auth.errors import NoSuchPage
from lictor.web.auth.gate import Person
from lictor.web.auth.rights import GRANTS, OPEN, Right, Role, Scope, granted
from tests.web.auth.routes import asked_for, names_of, routes, whole_app

A, OWN, N = Scope.ALL, Scope.OWN, Scope.NAMES

#: reliability.md section 3.3, row by row: admin, user, web, guest.
TABLE = {
    Right.SERVICES_LIST: (A, OWN, None, N),
    Right.SERVICES_CHANGE: (A, OWN, None, None),
    Right.SERVICES_CHANGE_ALL: (A, None, None, None),
    Right.PARAMS: (A, OWN, None, None),
    Right.LOGS: (A, OWN, None, None),
    Right.MONITOR: (A, None, None, None),
    Right.MONITOR_SUMMARY: (A, A, None, None),
    Right.ENV_NAMES: (A, OWN, None, None),
    Right.PEOPLE: (A, None, None, None),
    Right.AUDIT: (A, None, None, None),
    Right.CONFIG: (A, None, None, None),
    Right.START_ENV: (A, None, None, None),
    Right.RELOAD: (A, None, None, None),
    Right.HOLDS: (A, None, None, None),
    Right.METRICS: (A, None, None, None),
    Right.REGISTRY_CHANGE: (A, None, None, None),
    Right.EVENTS: (A, OWN, None, N),
    Right.OWN_PASSWORD: (A, A, A, None),
    Right.GATEWAY: (A, A, A, None),
}


@pytest.mark.parametrize("right", TABLE, ids=lambda right: right.value)
def test_each_role_has_what_the_threat_model_gives_it(right):
    roles = (Role.ADMIN, Role.USER, Role.WEB, Role.GUEST)
    assert tuple(granted(role, right) for role in roles) == TABLE[right]


def test_a_right_that_is_not_in_the_table_is_nobodys():
    known = set(TABLE) | {Right.SESSION, Right.API_DESCRIPTION, Right.HEALTH, Right.REGISTRY}
    assert known == set(Right)
    assert set(GRANTS[Role.WEB]) == {
        *(Right.SESSION, Right.API_DESCRIPTION, Right.OWN_PASSWORD, Right.GATEWAY)
    }


@pytest.mark.parametrize("role", [Role.USER, Role.WEB, Role.GUEST])
def test_in_the_cloud_the_services_pages_exist_for_admins_only(role):
    for right in Right:
        if right in {Right.SESSION, Right.API_DESCRIPTION, Right.OWN_PASSWORD, Right.GATEWAY}:
            continue
        assert granted(role, right, mode="cloud") is None
        with pytest.raises(NoSuchPage):
            Person("x", role, "basic", mode="cloud").require(right)
    assert granted(Role.ADMIN, Right.LOGS, mode="cloud") is A


def test_ones_own_is_what_config_says():
    anna = Person("anna", Role.USER, "cookie")
    assert anna.reaches(Right.LOGS, "anna")
    assert anna.reaches(Right.LOGS, "Anna")
    assert not anna.reaches(Right.LOGS, "boris")
    assert not anna.reaches(Right.LOGS, None)
    with pytest.raises(NotPermitted):
        anna.require(Right.LOGS, "boris")
    assert not Person("anna", Role.GUEST, "cookie").reaches(Right.SERVICES_LIST, "anna")


def test_a_limited_token_has_only_what_it_was_given():
    metrics = Person("prom", Role.ADMIN, "token", only=frozenset({Right.METRICS}))
    assert metrics.may(Right.METRICS)
    assert not metrics.may(Right.LOGS)
    sly = Person("sly", Role.GUEST, "token", only=frozenset(Right))
    assert not sly.may(Right.LOGS)


# --- the routes --------------------------------------------------------------------------------


def without_a_right(app: FastAPI) -> set[str]:
    found = set()
    for route in routes(app):
        dependant = getattr(route, "dependant", None)
        rights = asked_for(dependant) if dependant is not None else []
        if len(set(rights)) != 1:
            found |= set(names_of(route))
    return found


def test_every_route_asks_for_one_right_or_is_known_to_be_open():
    app = whole_app()
    assert sum(1 for _ in routes(app)) > 20
    assert without_a_right(app) - set(OPEN) == set()


def test_a_route_that_forgot_its_right_would_be_found():
    app = whole_app()

    @app.post("/admin/forgotten")
    async def forgotten() -> None:
        """No right."""

    assert "POST /admin/forgotten" in without_a_right(app)
