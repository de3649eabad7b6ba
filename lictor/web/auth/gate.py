"""The gate: `Depends(needs(Right.X))` on a route, and who has come through it.

A route names the one right that it needs; the gate finds out who asks (`Doorkeeper`) and whether the
table of rights lets them. It is a dependency of the route and not a rule over paths: what decides is
the route that was chosen, never the text of a URL (CVE-2026-48710). A route without it is caught by
a test that walks the application. The gate does not read passwords; that is the doorkeeper's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from fastapi import FastAPI, Request

from lictor.core.errors import LictorError, NotPermitted
from lictor.core.model.reason import because
from lictor.core.worded import worded
from lictor.web.auth.errors import NoSuchPage, NotSignedIn
from lictor.web.auth.rights import Right, Role, Scope, granted, hidden


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks. `via` is how they came in: cookie, bearer, token or basic.

    `only` limits an API token to some rights (None: all of its role); `remote` is the address that
    the request came from; `mode` is the agent's; `proof` is what `Doorkeeper.still` looks at again.
    """

    name: str
    role: Role
    via: str
    remote: str = ""
    only: frozenset[Right] | None = None
    mode: str = "full"
    proof: str = field(default="", repr=False, compare=False)

    def scope(self, right: Right) -> Scope | None:
        """How far this person has a right; None: not at all."""
        if self.only is not None and right not in self.only:
            return None
        return granted(self.role, right, mode=self.mode)

    def may(self, right: Right) -> bool:
        """Whether this person has a right, however far."""
        return self.scope(right) is not None

    def reaches(self, right: Right, owner: str | None) -> bool:
        """Whether a right reaches a service of that owner (`spec.owner`) with all its details."""
        scope = self.scope(right)
        mine = owner is not None and owner.lower() == self.name
        return scope is Scope.ALL or (scope is Scope.OWN and mine)

    def require(self, right: Right, owner: str | None = None) -> None:
        """Raise `NotPermitted` unless the right reaches (403), `NoSuchPage` where it is hidden."""
        if self.reaches(right, owner):
            return
        raise self.refusal(right)

    def refusal(self, right: Right) -> LictorError:
        """What is said to this person where the right does not reach."""
        if hidden(self.role, right, mode=self.mode):
            return worded(NoSuchPage, because("page.none"))
        needed = because("next.right", right=right.value)
        return worded(NotPermitted, because("auth.may_not", user=self.name), hint=needed)


class Doorkeeper(Protocol):
    """Finds out who asks. Raises `NotSignedIn` for a credential that is not valid."""

    async def person(self, request: Request) -> Person | None:
        """The person behind a request, or None when it carries no credential at all."""
        ...

    def still(self, person: Person) -> bool:
        """Whether a person of an earlier request would come in again, in the same role.

        For streams: ask at least every five seconds, and end the stream when it is false.
        """
        ...


class Needs:
    """The dependency itself; `right` is what the walk over all routes reads."""

    def __init__(self, right: Right) -> None:
        self.right = right

    async def __call__(self, request: Request) -> Person:
        """Who asks; raises for those whom the table does not let."""
        keeper: Doorkeeper = request.app.state.doorkeeper
        person = await keeper.person(request)
        if person is None:
            raise worded(NotSignedIn, because("auth.sign_in_first"))
        request.state.person = person  # also of those who are refused: the trail names them
        if not person.may(self.right):
            raise person.refusal(self.right)
        return person


def needs(right: Right) -> Needs:
    """The dependency for a route: `person: Annotated[Person, Depends(needs(Right.LOGS))]`."""
    return Needs(right)


def install(app: FastAPI, keeper: Doorkeeper) -> None:
    """Put the doorkeeper where the gate looks for it."""
    app.state.doorkeeper = keeper
