"""What the gate answers when it lets nobody through.

Part of the one error tree, so that the same table turns them into `application/problem+json`; each
carries the HTTP status and headers that only make sense at this door (RFC 9110 section 15.5,
RFC 6585 section 4). The sentences never say which half of a credential was wrong.
"""

from __future__ import annotations

from collections.abc import Mapping

from lictor.core.errors import LictorError, NotPermitted


class DoorError(LictorError):
    """An answer of the gate itself: `status` and `headers` go into the response."""

    status = 403

    def __init__(self, message: str, *, hint: str = "", code: str | None = None) -> None:
        super().__init__(message, hint=hint, code=code)
        self.headers: Mapping[str, str] = {}


class NotSignedIn(DoorError, NotPermitted):
    """401: there is no credential, or it is not valid (any more)."""

    code = "not_signed_in"
    status = 401

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        # Not Basic: a browser would open its own window over the login page.
        self.headers = {"WWW-Authenticate": 'Bearer realm="lictor"'}


class NoSuchPage(DoorError):
    """404: nothing is there, or nothing that this person may know of."""

    code = "page.unknown"
    status = 404


class TooManyTries(DoorError):
    """429: wrong passwords too often; `retry_after` is in seconds."""

    code = "too_many_tries"
    status = 429

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.headers = {"Retry-After": str(retry_after)}


class BadRequestBody(DoorError):
    """400, 413 or 415: a body that no route reads."""

    code = "bad_body"
    status = 400

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class WrongDoor(DoorError):
    """400, 403 or 421: asked under a name, or from a page, that this agent does not serve."""

    code = "wrong_door"

    def __init__(self, message: str, *, hint: str = "", status: int = 403) -> None:
        super().__init__(message, hint=hint)
        self.status = status
