"""What a failed TLS handshake means: whose certificate was refused, and which setting to look at.

OpenSSL says it in words that few people know ("unable to get local issuer certificate"), and a
refused client certificate often arrives after the handshake, as a cut connection with an alert in
it (that is how TLS 1.3 does it, RFC 8446 §4.4.2.4). It looks only at the errors; no secret is in them.
"""

from __future__ import annotations

import ssl

from lictor.core.errors import ConsulUnreachable

_WRONG_NAME = {62, 64}  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_NO_CERTIFICATE = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE", "ACCESS_DENIED")


def handshake_failure(
    error: BaseException, where: str, *, certificate: bool
) -> ConsulUnreachable | None:
    """The error for a failure that TLS is to blame for; None for any other.

    `certificate`: whether we showed a client certificate.
    """
    cause = _ssl_error(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _untrusted(cause, where)
    reason = (cause.reason or "") if cause is not None else ""
    if "ALERT" in reason and any(word in reason for word in _NO_CERTIFICATE):
        return _refused(reason, where, certificate=certificate)
    if reason in {"WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE"}:
        return ConsulUnreachable(
            f"{where} does not speak https.", hint="Try http://.", code="consul.bad_address"
        )
    if cause is None:
        return None
    return ConsulUnreachable(
        f"No https connection to {where}: {reason or cause}.", code="consul.untrusted"
    )


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


def _untrusted(cause: ssl.SSLCertVerificationError, where: str) -> ConsulUnreachable:
    said = (cause.verify_message or str(cause)).rstrip(".")
    if cause.verify_code in _WRONG_NAME:
        return ConsulUnreachable(
            f"The certificate that {where} shows is for another name: {said}.",
            hint="Name it with consul.tls_server_name or CONSUL_TLS_SERVER_NAME (certificates that"
            " Consul makes say server.<datacenter>.consul).",
            code="consul.untrusted",
        )
    return ConsulUnreachable(
        f"The certificate that {where} shows is not trusted: {said}.",
        hint="Name the CA that signed it with consul.ca_file or CONSUL_CACERT.",
        code="consul.untrusted",
    )


def _refused(reason: str, where: str, *, certificate: bool) -> ConsulUnreachable:
    if not certificate:
        return ConsulUnreachable(
            f"{where} wants a client certificate, and Lictor was given none.",
            hint="Name it with consul.client_cert and consul.client_key, or CONSUL_CLIENT_CERT and"
            " CONSUL_CLIENT_KEY.",
            code="consul.no_certificate",
        )
    alert = reason.partition("ALERT_")[2].replace("_", " ").lower()
    return ConsulUnreachable(
        f"{where} does not accept Lictor's client certificate: {alert}.",
        hint="consul.client_cert must be signed by a CA that Consul trusts, and be valid today.",
        code="consul.no_certificate",
    )
