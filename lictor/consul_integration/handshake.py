"""What a failed TLS handshake means: whose certificate was refused, and which setting to look at.

OpenSSL says it in words that few people know ("unable to get local issuer certificate"), and a
refused client certificate often arrives after the handshake, as a cut connection with an alert in
it (that is how TLS 1.3 does it, RFC 8446 §4.4.2.4). It looks only at the errors; no secret is in them.
"""

from __future__ import annotations

import ssl

from lictor.core.errors import ConsulUnreachable
from lictor.core.model.reason import because
from lictor.core.worded import worded

_WRONG_NAME = {62, 64}  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_NO_CERTIFICATE = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE", "ACCESS_DENIED")


def handshake_failure(
    error: BaseException, address: str, *, certificate: bool
) -> ConsulUnreachable | None:
    """The error for a failure that TLS is to blame for; None for any other.

    `certificate`: whether we showed a client certificate.
    """
    cause = _ssl_error(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _untrusted(cause, address)
    reason = (cause.reason or "") if cause is not None else ""
    if "ALERT" in reason and any(word in reason for word in _NO_CERTIFICATE):
        return _refused(reason, address, certificate=certificate)
    if reason in {"WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE"}:
        return worded(
            ConsulUnreachable,
            because("tls.not_spoken", address=address),
            hint=because("next.http"),
            code="consul.bad_address",
        )
    if cause is None:
        return None
    failed = because("tls.failed", address=address, why=reason or str(cause))
    return worded(ConsulUnreachable, failed, code="consul.untrusted")


def _ssl_error(error: BaseException) -> ssl.SSLError | None:
    """The library's own error, however deep it was wrapped."""
    seen: BaseException | None = error
    for _ in range(8):
        # aiohttp's errors are ssl errors by name only: what they wrap comes first.
        inner = getattr(seen, "certificate_error", None) or getattr(seen, "os_error", None)
        if inner is None and isinstance(seen, ssl.SSLError):
            return seen
        seen = inner or getattr(seen, "__cause__", None) or getattr(seen, "__context__", None)
    return None


def _untrusted(cause: ssl.SSLCertVerificationError, address: str) -> ConsulUnreachable:
    said = (cause.verify_message or str(cause)).rstrip(".")
    if cause.verify_code in _WRONG_NAME:
        return worded(
            ConsulUnreachable,
            because("tls.wrong_name", address=address, why=said),
            hint=because("next.server_name"),
            code="consul.untrusted",
        )
    return worded(
        ConsulUnreachable,
        because("tls.untrusted", address=address, why=said),
        hint=because("next.ca"),
        code="consul.untrusted",
    )


def _refused(reason: str, address: str, *, certificate: bool) -> ConsulUnreachable:
    if not certificate:
        return worded(
            ConsulUnreachable,
            because("tls.wants_certificate", address=address),
            hint=because("next.client_certificate"),
            code="consul.no_certificate",
        )
    alert = reason.partition("ALERT_")[2].replace("_", " ").lower()
    return worded(
        ConsulUnreachable,
        because("tls.refused", address=address, why=alert),
        hint=because("next.signed_certificate"),
        code="consul.no_certificate",
    )
