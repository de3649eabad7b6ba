"""`/admin/auth`: coming in, staying in, leaving, and one's own password.

`login`, `refresh` and `link` are open: their credential is what they read. Whatever goes wrong there
is said in one sentence that does not tell which half was wrong. The browser gets strict cookies that
no script can read; a program may use the token of the answer as bearer, or better an API token.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from lictor.core.errors import NotPermitted
from lictor.core.model.reason import because
from lictor.core.worded import worded
from lictor.web.auth.errors import NotSignedIn
from lictor.web.auth.gate import Person, needs
from lictor.web.auth.keeper import remote_of
from lictor.web.auth.office import Office
from lictor.web.auth.rights import Right
from lictor.web.auth.sessions import ACCESS_SECONDS, SESSION_SECONDS, Granted

router = APIRouter(prefix="/admin/auth", tags=["auth"])

Someone = Annotated[Person, Depends(needs(Right.SESSION))]
Owner = Annotated[Person, Depends(needs(Right.OWN_PASSWORD))]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Login(_Body):
    """A name and a password."""

    username: str = Field(min_length=1, max_length=64)
    password: str = Field(min_length=1, max_length=1024)


class LinkSecret(_Body):
    """What stood in the fragment of a one-time link."""

    secret: str = Field(min_length=1, max_length=128)


class NewPassword(_Body):
    """One's own password, and the one to come."""

    current_password: str = Field(min_length=1, max_length=1024)
    new_password: str = Field(min_length=1, max_length=1024)


class Access(BaseModel):
    """What a sign-in answers; the token is a JWT that lasts so many seconds."""

    access_token: str
    token_type: str = "bearer"  # noqa: S105 - a kind, not a secret
    expires_in: int = ACCESS_SECONDS
    username: str
    role: str


class Me(BaseModel):
    """Who one is, and how far each right reaches (`all`, `own` or `names`)."""

    username: str
    role: str
    via: str
    mode: str
    rights: dict[str, str]


def the_office(request: Request) -> Office:
    """The people of the application that serves this request."""
    office: Office = request.app.state.office
    return office


TheOffice = Annotated[Office, Depends(the_office)]


@router.post("/login", response_model=Access)
async def login(body: Login, request: Request, office: TheOffice) -> JSONResponse:
    """Come in with a name and a password."""
    request.state.tried = body.username.lower()
    user = await office.keeper.sign_in(body.username, body.password, remote_of(request))
    return _welcome(request, office, await office.sessions.begin(user))


@router.post("/link", response_model=Access)
async def link(body: LinkSecret, request: Request, office: TheOffice) -> JSONResponse:
    """Come in with the one-time link that `lictor dashboard` printed."""
    office.guesses.enter(remote_of(request), "#link")
    name = office.links.take(body.secret)
    office.guesses.forgive(remote_of(request), "#link")
    request.state.tried = name
    user = office.people.user(name)
    if user is None or user.disabled:
        raise worded(NotSignedIn, because("auth.sign_in_first"))
    return _welcome(request, office, await office.sessions.begin(user))


@router.post("/refresh", response_model=Access)
async def refresh(request: Request, office: TheOffice) -> JSONResponse:
    """Stay in: a new access token for the cookie of an earlier sign-in."""
    renewal = request.cookies.get(_renewal_cookie(office))
    if renewal is None:
        raise worded(NotSignedIn, because("auth.sign_in_first"))
    return _welcome(request, office, await office.sessions.renew(renewal[:256]))


@router.post("/logout")
async def logout(person: Someone, request: Request, office: TheOffice) -> JSONResponse:
    """Leave: the session ends, with every token that it gave out."""
    kind, _, session = person.proof.partition(":")
    if kind == "session":
        await office.sessions.end(session)
    response = JSONResponse({"status": "ok"})
    for name, path in _cookies(request, office):
        response.delete_cookie(
            name, path=path, secure=_secure(request), httponly=True, samesite="strict"
        )
    return response


@router.get("/me")
async def me(person: Someone) -> Me:
    """Who am I, and what may I do."""
    rights = {right.value: scope.value for right in Right if (scope := person.scope(right))}
    return Me(
        username=person.name,
        role=person.role.value,
        via=person.via,
        mode=person.mode,
        rights=rights,
    )


@router.post("/password", response_model=Access)
async def password(
    body: NewPassword, person: Owner, request: Request, office: TheOffice
) -> JSONResponse:
    """Change one's own password; all sessions end, and a new one begins."""
    if person.via == "token":
        raise worded(NotPermitted, because("password.by_program"))
    request.state.tried = person.name
    try:
        await office.keeper.sign_in(person.name, body.current_password, remote_of(request))
    except NotSignedIn:
        # Not 401: the person is signed in, and the page must not send them away.
        wrong = because("password.current_wrong")
        raise worded(NotPermitted, wrong, code="password.wrong") from None
    user = await office.people.set_password(person.name, body.new_password)
    return _welcome(request, office, await office.sessions.begin(user))


# --- cookies ---------------------------------------------------------------------------------


def _welcome(request: Request, office: Office, given: Granted) -> JSONResponse:
    content: dict[str, Any] = {
        "access_token": given.access,
        "token_type": "bearer",
        "expires_in": ACCESS_SECONDS,
        "username": given.user.name,
        "role": given.user.role.value,
    }
    response = JSONResponse(content)
    (access, whole), (renewal, narrow) = _cookies(request, office)
    secure = _secure(request)
    response.set_cookie(
        access,
        given.access,
        max_age=ACCESS_SECONDS,
        path=whole,
        secure=secure,
        httponly=True,
        samesite="strict",
    )
    if given.renewal:
        response.set_cookie(
            renewal,
            given.renewal,
            max_age=int(SESSION_SECONDS),
            path=narrow,
            secure=secure,
            httponly=True,
            samesite="strict",
        )
    return response


def _renewal_cookie(office: Office) -> str:
    return f"{office.keeper.cookie}-renew"


def _cookies(request: Request, office: Office) -> tuple[tuple[str, str], tuple[str, str]]:
    """Name and path of both cookies; what renews is sent to these routes only."""
    base = request.scope.get("root_path", "")
    return (office.keeper.cookie, f"{base}/"), (_renewal_cookie(office), f"{base}/admin/auth")


def _secure(request: Request) -> bool:
    """Whether the browser speaks https with us or with the proxy (the borders have found out)."""
    return str(request.scope.get("scheme")) == "https"
