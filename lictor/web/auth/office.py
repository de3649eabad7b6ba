"""Everything about people of one agent, put together: opened once, used by the web and the CLI.

The operations here are the service layer of users, tokens and one-time links: the routes of the API
and the commands on the Unix socket call the same ones. Everybody who comes in through the socket is
an admin (the kernel has said who they are); the routes have passed the gate.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from lictor.core.errors import NotRunning, UsageError
from lictor.core.model.reason import because
from lictor.core.worded import worded
from lictor.web.auth.audit import Audit
from lictor.web.auth.errors import NoSuchPage
from lictor.web.auth.guessing import Guesses
from lictor.web.auth.keeper import Keeper
from lictor.web.auth.links import LASTS, Links
from lictor.web.auth.passwords import made_up
from lictor.web.auth.people import People
from lictor.web.auth.peopledb import PeopleDb
from lictor.web.auth.records import ApiToken, AuditLine, User
from lictor.web.auth.rights import Right, Role
from lictor.web.auth.secretfile import session_secret
from lictor.web.auth.sessions import Sessions
from lictor.web.auth.tokens import Tokens

Args = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the office must know of its agent; the callables are asked each time."""

    data_dir: Path
    agent_id: str
    mode: Callable[[], str] = lambda: "full"
    url: Callable[[], str | None] = lambda: None
    journal: Callable[[AuditLine], None] | None = None


class Office:
    """People, sessions, tokens, links and the audit log of one agent. Close it last."""

    def __init__(self, around: Surroundings, db: PeopleDb) -> None:
        self._db = db
        self._around = around
        self.people = People(db, around.data_dir)
        self.sessions = Sessions(
            db, self.people, secret=session_secret(around.data_dir), issuer=around.agent_id
        )
        self.tokens = Tokens(db, self.people)
        self.guesses = Guesses()
        self.links = Links()
        self.audit = Audit(db, around.journal)
        self.keeper = Keeper(
            people=self.people,
            sessions=self.sessions,
            tokens=self.tokens,
            guesses=self.guesses,
            cookie=f"lictor-{around.agent_id[:8]}",
            mode=around.mode,
        )
        self.ops: Mapping[str, Callable[[Args, str], Awaitable[Any]]] = {
            "users.list": self._users,
            "users.get": self._user,
            "users.create": self._create_user,
            "users.set_role": self._set_role,
            "users.passwd": self._set_password,
            "users.disable": self._disable,
            "users.delete": self._delete_user,
            "tokens.list": self._tokens,
            "tokens.create": self._create_token,
            "tokens.revoke": self._revoke_token,
            "dashboard": self._dashboard,
        }

    @classmethod
    async def open(cls, around: Surroundings) -> Self:
        """Open the file and make the first admin if there is nobody. Raises `OperationFailed`."""
        db = PeopleDb(around.data_dir / "people.db")
        try:
            office = cls(around, db)
            await office.people.first_start()
        except BaseException:
            db.close()
            raise
        return office

    def close(self) -> None:
        """Finish writing, and close the file."""
        self._db.close()

    async def handle(self, op: str, args: Args, who: str) -> Any:
        """Do one operation; raises `LictorError`."""
        return await self.ops[op](args, who)

    # --- users --------------------------------------------------------------------------

    async def _users(self, _args: Args, _who: str) -> Any:
        return [_user_row(user) for user in self.people.all()]

    async def _user(self, args: Args, _who: str) -> Any:
        return _user_row(self.people.named(_text(args, "name")))

    async def _create_user(self, args: Args, _who: str) -> Any:
        role = _role(args.get("role") or Role.USER)
        password, made = _password(args)
        user = await self.people.create(_text(args, "name"), role, password)
        return _user_row(user) | ({"password": password} if made else {})

    async def _set_role(self, args: Args, _who: str) -> Any:
        return _user_row(await self.people.set_role(_text(args, "name"), _role(args.get("role"))))

    async def _set_password(self, args: Args, _who: str) -> Any:
        password, made = _password(args)
        user = await self.people.set_password(_text(args, "name"), password)
        return _user_row(user) | ({"password": password} if made else {})

    async def _disable(self, args: Args, _who: str) -> Any:
        disabled = bool(args.get("disabled", True))
        return _user_row(await self.people.set_disabled(_text(args, "name"), disabled=disabled))

    async def _delete_user(self, args: Args, _who: str) -> Any:
        return _user_row(await self.people.delete(_text(args, "name")))

    # --- tokens -------------------------------------------------------------------------

    async def _tokens(self, _args: Args, _who: str) -> Any:
        return [self._token_row(token) for token in self.tokens.all()]

    async def _create_token(self, args: Args, _who: str) -> Any:
        user, role = args.get("user"), args.get("role")
        only = args.get("only")
        token, text = await self.tokens.create(
            _text(args, "name"),
            user=None if user is None else str(user),
            role=_role(role or Role.ADMIN) if user is None else None,
            only=[_right(name) for name in only] if only else None,
            lasts=None if args.get("lasts") is None else float(args["lasts"]),
        )
        return self._token_row(token) | {"token": text}

    async def _revoke_token(self, args: Args, _who: str) -> Any:
        return _token_plain(await self.tokens.revoke(_text(args, "name")))

    def _token_row(self, token: ApiToken) -> dict[str, Any]:
        return _token_plain(token) | {"role": self.tokens.role_of(token).value}

    # --- the way into the browser -------------------------------------------------------

    async def _dashboard(self, args: Args, who: str) -> Any:
        url = self._around.url()
        if url is None:
            see = because("next.web_enabled")
            raise worded(NotRunning, because("web.not_serving"), hint=see)
        wanted = args.get("user")
        user = self.people.named(str(wanted)) if wanted else self.people.some_admin(who)
        if user is None or user.disabled:
            raise worded(NoSuchPage, because("user.not_to_enter"), code="user.unknown")
        secret = self.links.make(user.name)
        return {
            "url": f"{url}/#link={secret}",
            "user": user.name,
            "expires_in": int(LASTS),
        }


def audit_line(op: str, args: Args, who: str, outcome: str, detail: str = "") -> AuditLine:
    """The audit line of something that was asked on the socket."""
    names = args.get("names")
    target = [str(name) for name in names] if isinstance(names, list) else []
    if isinstance(args.get("name"), str):
        target.append(args["name"])
    entries = args.get("entries")
    if isinstance(entries, list):
        target += [str(one.get("id")) for one in entries if isinstance(one, dict)]
    verb = args.get("verb")
    return AuditLine(
        at=time.time(),
        who=who,
        role=Role.ADMIN.value,
        via="socket",
        remote="",
        action=f"{op} {verb}" if isinstance(verb, str) else op,
        target=", ".join(target) or ("*" if args.get("all") else ""),
        outcome=outcome,
        detail=detail,
    )


def _user_row(user: User) -> dict[str, Any]:
    return {
        "name": user.name,
        "role": user.role.value,
        "disabled": user.disabled,
        "created": user.created,
        "password_changed": user.changed,
    }


def _token_plain(token: ApiToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "user": token.user,
        "role": None if token.role is None else token.role.value,
        "only": None if token.only is None else sorted(right.value for right in token.only),
        "created": token.created,
        "expires": token.expires,
        "used": token.used,
    }


def _text(args: Args, name: str) -> str:
    value = args.get(name)
    if not isinstance(value, str) or not value:
        raise worded(UsageError, because("ask.missing", name=name))
    return value


def _password(args: Args) -> tuple[str, bool]:
    """The password that was given, or one that is made up."""
    given = args.get("password")
    if given is None:
        return made_up(), True
    if not isinstance(given, str):
        raise worded(UsageError, because("password.not_text"))
    return given, False


def _role(value: object) -> Role:
    try:
        return Role(str(value))
    except ValueError:
        roles = because("next.there_are", known=", ".join(role.value for role in Role))
        none = because("user.no_role", role=str(value)[:40])
        raise worded(UsageError, none, hint=roles) from None


def _right(value: object) -> Right:
    try:
        return Right(str(value))
    except ValueError:
        rights = because("next.there_are", known=", ".join(right.value for right in Right))
        none = because("token.no_right", right=str(value)[:40])
        raise worded(UsageError, none, hint=rights) from None
