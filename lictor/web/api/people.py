"""`/admin/users` and `/admin/tokens`: the same operations as `lictor users` and `lictor token`.

Nothing is decided here. A password or a token's text is in an answer once: when it was made.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from lictor.web.api.auth import TheOffice
from lictor.web.auth.gate import Person, needs
from lictor.web.auth.rights import Right, Role

router = APIRouter(prefix="/admin", tags=["people"])

Chief = Annotated[Person, Depends(needs(Right.PEOPLE))]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewUser(_Body):
    """Somebody new. Without a password one is made up, and stands in the answer."""

    username: str = Field(min_length=1, max_length=64)
    password: str | None = Field(default=None, min_length=1, max_length=1024)
    role: Role = Role.USER


class ChangedUser(_Body):
    """What shall be different; what is left out stays."""

    role: Role | None = None
    disabled: bool | None = None
    password: str | None = Field(default=None, min_length=1, max_length=1024)


class NewToken(_Body):
    """A credential for a program.

    It acts for `user`, or alone in `role` (default admin); `only` limits it to some rights, `lasts`
    to so many seconds.
    """

    name: str = Field(min_length=1, max_length=64)
    user: str | None = Field(default=None, min_length=1, max_length=64)
    role: Role | None = None
    only: list[Right] | None = Field(default=None, min_length=1, max_length=64)
    lasts: float | None = Field(default=None, gt=0, le=10 * 365 * 86_400)


class UserRow(BaseModel):
    """One user. Times are Unix seconds."""

    name: str
    role: Role
    disabled: bool
    created: float
    password_changed: float
    password: str | None = None


class TokenRow(BaseModel):
    """One API token. Times are Unix seconds; `token` is its text, only when it was made."""

    id: str
    name: str
    user: str | None
    role: Role | None
    only: list[Right] | None
    created: float
    expires: float | None
    used: float | None
    token: str | None = None


@router.get("/users", response_model_exclude_none=True)
async def users(_person: Chief, office: TheOffice) -> list[UserRow]:
    """Everybody who may sign in."""
    rows = await office.handle("users.list", {}, "")
    return [UserRow(**row) for row in rows]


@router.post("/users", status_code=201, response_model_exclude_none=True)
async def create_user(body: NewUser, person: Chief, office: TheOffice) -> UserRow:
    """Somebody new."""
    args = {"name": body.username, "password": body.password, "role": body.role}
    return UserRow(**await office.handle("users.create", args, person.name))


@router.patch("/users/{name}", response_model_exclude_none=True)
async def change_user(name: str, body: ChangedUser, person: Chief, office: TheOffice) -> UserRow:
    """Another role, another password, shut out or let in again."""
    row = UserRow(**await office.handle("users.get", {"name": name}, person.name))
    changes = (
        ("users.set_role", "role", body.role),
        ("users.disable", "disabled", body.disabled),
        ("users.passwd", "password", body.password),
    )
    for op, key, value in changes:
        if value is not None:
            row = UserRow(**await office.handle(op, {"name": name, key: value}, person.name))
    return row


@router.delete("/users/{name}", response_model_exclude_none=True)
async def delete_user(name: str, person: Chief, office: TheOffice) -> UserRow:
    """Gone, with all sessions and tokens."""
    return UserRow(**await office.handle("users.delete", {"name": name}, person.name))


@router.get("/tokens")
async def tokens(_person: Chief, office: TheOffice) -> list[TokenRow]:
    """Every API token that still counts; never its text."""
    rows = await office.handle("tokens.list", {}, "")
    return [TokenRow(**row) for row in rows]


@router.post("/tokens", status_code=201)
async def create_token(body: NewToken, person: Chief, office: TheOffice) -> TokenRow:
    """A credential for a program; its text is shown this once."""
    args = body.model_dump()
    return TokenRow(**await office.handle("tokens.create", args, person.name))


@router.delete("/tokens/{name}")
async def revoke_token(name: str, person: Chief, office: TheOffice) -> TokenRow:
    """The token of that name or id counts for nothing from now on."""
    return TokenRow(**await office.handle("tokens.revoke", {"name": name}, person.name))
