"""Failures: what the reactor reports, as the error that a user sees. First floor."""

from __future__ import annotations

import re

from ._reactor import libcurl_features, libcurl_message
from ._response import FLAWS
from .errors import (
    AccessDenied,
    BadResponse,
    BadStatus,
    BadURL,
    ConnectFailed,
    NotFound,
    ObjectChanged,
    ParpullError,
    RangeIgnored,
    RetriesExhausted,
    Stalled,
    TLSFailed,
    TransferError,
    redact,
)
from .files import sink_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["failure", "failure_of"]

# libcurl's result codes: https://curl.se/libcurl/c/libcurl-errors.html
BAD_URL, NO_PROXY, NO_HOST, NO_CONNECTION, TIMEOUT, NO_MEMORY, UNSENT, BROKE, SOCKS, TOO_LARGE = (
    3, 5, 6, 7, 28, 27, 55, 56, 97, 100,
)  # fmt: skip
UNREACHABLE = {NO_PROXY, NO_HOST, NO_CONNECTION, TIMEOUT}
NOT_HTTP = {1, 8}  # the scheme was checked before, so 1 means HTTP/0.9
TLS = {35, 53, 54, 58, 59, 60, 64, 66, 77, 80, 82, 83, 90, 91, 98}
UNTRUSTED = 60
TLS_HINTS = {
    UNTRUSTED: "if the authority is a private one, name its file: ca_file= (--cacert); "
    "`parpull doctor` tells which is used",
    77: "the file of trusted authorities can't be read: ca_file= (--cacert), or the variable SSL_CERT_FILE",
    58: "cert= and key= have to be PEM files that belong together, the key without a pass phrase",
}
NOBODY = (
    "there is no file of trusted authorities here: install ca-certificates, or `pip install certifi`, "
    "or name one: ca_file= (--cacert), or the variable SSL_CERT_FILE"
)
# What a server says of a client's certificate, in the words of OpenSSL's alerts. With TLS 1.3
# it comes when the client believes to be connected, and libcurl calls it a broken connection.
ALERTS = {
    "certificate required": "the server wants a client's certificate: cert= (--cert), key= (--key)",
    "certificate expired": "the client's certificate has expired: have it renewed, and name it in cert= (--cert)",
    "unknown ca": "the server does not know who signed the client's certificate: cert= (--cert)",
    "alert": "perhaps it wants a client's certificate, or not this one: cert= (--cert), key= (--key)",
}
TUNNEL = re.compile(r"(?:CONNECT tunnel failed, response|Received HTTP code) (\d{3})")
NO_USER = re.compile(r"rejected by the SOCKS|authentication method|username/password")
TO_WHOM = re.compile(r"connect to (\S+)(?: port |:)(\d+)")
QUOTED = re.compile(r"'[^']*(?:://|@)[^']*'")
# CURLAUTH_*, and the CURL_VERSION_* that libcurl needs for it.
SCHEMES = {"Basic": (1, 0), "Digest": (2, 0), "Negotiate": (4, 1 << 8), "NTLM": (8, 1 << 4), "Bearer": (64, 0)}
WITH_USER = "proxy=http://user:password@host:port"


def failure_of(
    event: Mapping[str, Any],
    *,
    url: str,
    before: str | None,
    stall_timeout: float,
    path: str | None,
    trusting: bool = True,
) -> ParpullError:
    """The error for a `note` or `finished` event. `url` is redacted; `before` the
    validator that the transfer began with; `trusting`: there are authorities."""
    kind, code, status = event["cause"], event["code"], event["status"]
    if kind == "transport":
        return _transport(code, event["text"], url, event.get("offered", 0), trusting=trusting)
    if kind == "status":
        return _status(status, url, event.get("offered", 0))
    if kind == "flawed":
        reason = FLAWS[code]
        return BadResponse(f"the response can't be used, {reason}: {url}", url=url, reason=reason, status=status)
    if kind == "too_large":
        return _too_large(url)
    if kind == "surplus":
        reason = "the body is not as long as the response said"
        return BadResponse(f"{reason}: {url}", url=url, reason=reason, status=status)
    if kind in ("other_object", "different"):
        return ObjectChanged(
            f"the object changed while it was fetched: {url}",
            url=url,
            before=before,
            after=event["text"],
            hint="fetch it again from the start",
        )
    if kind == "range_ignored":
        return RangeIgnored(
            "the server answered a range with the whole object",
            url=url,
            hint="it does not give ranges reliably: use one connection",
        )
    if kind == "silent":
        return Stalled(
            f"nothing arrived for {stall_timeout:g} s: {url}",
            url=url,
            seconds=stall_timeout,
            hint="the server or the network is stuck: try again later; stall_timeout= waits longer",
        )
    if kind == "sink":
        return sink_error(code, path)
    return TransferError(f"the transfer failed: {kind or 'unknown cause'}", url=url)


def failure(event: Mapping[str, Any], *, retries: int, started: bool, **about: Any) -> ParpullError:
    """The error that ends a transfer: RetriesExhausted around the last failure if
    something had worked before or a server had answered, else that failure itself."""
    last = failure_of(event, **about)
    attempts = event["number"]
    never = not started and (
        isinstance(last, (AccessDenied, TLSFailed)) or (isinstance(last, ConnectFailed) and last.code in UNREACHABLE)
    )
    if not event["exhausted"] or never or retries == 0 or isinstance(last, ObjectChanged):
        last.attempts = attempts  # type: ignore[attr-defined]
        return last
    error = RetriesExhausted(
        f"gave up after {attempts} failed attempt{'s' * (attempts != 1)}; the last: {last}",
        url=about["url"],
        attempts=attempts,
        last=last,
        hint=last.hint,
    )
    error.__cause__ = last
    return error


def _transport(code: int, text: str | None, url: str, offered: int, *, trusting: bool) -> ParpullError:
    message = QUOTED.sub(lambda found: f"'{redact(found[0][1:-1])}'", text or libcurl_message(code))
    # libcurl has limits of its own, for one line and for all heads of a response. Before 8.6
    # it calls the former a lack of memory; of a real one we tell in words (endings.pxi).
    if code == TOO_LARGE or (code == NO_MEMORY and not text) or (code == BROKE and "response headers" in message):
        return _too_large(url)
    if code == NO_MEMORY:
        return TransferError("libcurl ran out of memory", url=url)
    if code == BAD_URL:
        return BadURL(f"not a URL: {url}", url=url)
    if code in NOT_HTTP:
        return BadResponse(f"the answer is no proper HTTP: {message}", url=url, reason="not HTTP")
    if code in TLS or (code in (UNSENT, BROKE) and "alert" in message):
        said = next((hint for words, hint in ALERTS.items() if words in message), None)
        hint = TLS_HINTS.get(code) or said
        if code == UNTRUSTED and not trusting:
            hint = NOBODY
        return TLSFailed(f"no secure connection: {message}", url=url, code=code, hint=hint)
    tunnel = TUNNEL.search(message)
    if tunnel:
        return _tunnel(int(tunnel[1]), url, offered)
    if code == SOCKS and NO_USER.search(message):
        advice = "give a user that the proxy knows: proxy=socks5h://user:password@host:port"
        return AccessDenied(f"the proxy refuses the user: {message}", url=url, status=407, hint=advice)
    host = url.partition("://")[2].partition("/")[0]
    hint = {
        NO_HOST: "check the host's name and the network",
        NO_PROXY: "check the proxy's name: proxy= (--proxy)",
        NO_CONNECTION: "check the port, and whether the server runs",
        TIMEOUT: "the server does not answer; connect_timeout= gives it more time",
        SOCKS: "the proxy can't reach it: check the address, and that proxy= (--proxy) speaks this kind of SOCKS",
    }.get(code)
    whom = TO_WHOM.search(message)
    if code == NO_CONNECTION and whom and not _is_server(whom[1], whom[2], url):
        hint = "that is not the server itself: check proxy= (--proxy), and whether the proxy runs"
    if host.partition(":")[0] not in message:  # "Timeout was reached"
        message = f"{host}: {message}"
    return ConnectFailed(message, url=url, code=code, hint=hint)


def _is_server(host: str, port: str, url: str) -> bool:
    scheme, _, rest = url.partition("://")
    authority = rest.partition("/")[0]
    if not re.search(r":\d+$", authority):
        authority += ":443" if scheme == "https" else ":80"
    return f"{host}:{port}" == authority.replace("[", "").replace("]", "")


def _tunnel(status: int, url: str, offered: int) -> ParpullError:
    """What a proxy answered to CONNECT."""
    host = url.partition("://")[2].partition("/")[0]
    if status == 407:
        return _status(status, url, offered)
    message = f"the proxy answered {status} to CONNECT {host}"
    if status in (401, 403):
        hint = "it does not allow this host or port, or no more connections: noproxy= (--noproxy) goes without it"
        return AccessDenied(message, url=url, status=status, hint=hint)
    hint = "perhaps it is no proxy: check proxy= (--proxy)"
    if status >= 500 and status != 501:
        hint = "it can't reach the server: try again later, or noproxy= (--noproxy) goes without it"
    return BadStatus(message, url=url, status=status, hint=hint)


def _too_large(url: str) -> BadResponse:
    return BadResponse(f"the response's headers are larger than 64 KiB: {url}", url=url, reason="headers too large")


def _schemes(offered: int) -> tuple[str, ...]:
    return tuple(name for name, (bit, _) in SCHEMES.items() if offered & bit)


def _way_in(schemes: tuple[str, ...]) -> str:
    """What to do about a proxy's 407."""
    if not schemes:
        return f"the proxy wants credentials: {WITH_USER}"
    features = libcurl_features()
    lacking = [name for name in schemes if SCHEMES[name][1] & ~features]
    without = f" (this libcurl has no {', '.join(lacking)})" if lacking else ""
    how = "" if "Basic" in schemes else ", curl={pycurl.PROXYAUTH: pycurl.HTTPAUTH_ANY}"
    return f"the proxy takes {', '.join(schemes)}{without}: {WITH_USER}{how}"


def _status(status: int, url: str, offered: int = 0) -> ParpullError:
    if status in (404, 410):
        return NotFound(f"there is no such object ({status}): {url}", url=url, status=status)
    if status in (401, 403, 407):
        hint = {
            401: "give credentials: auth= (-u), headers= (-H)",
            403: "the credentials, or the signed address, do not allow it",
            407: _way_in(_schemes(offered)),
        }[status]
        schemes = {"offered": _schemes(offered)} if status == 407 else {}
        return AccessDenied(f"access denied ({status}): {url}", url=url, status=status, hint=hint, **schemes)
    advice: str | None = None
    if status in (400, 495, 496) and url.startswith("https:"):
        advice = "perhaps it wants a client's certificate, or not this one: cert= (--cert), key= (--key)"
    if status == 429:
        advice = "it wants fewer requests: try fewer connections, or later"
    elif status >= 500:
        advice = "the server is in trouble: try again later"
    return BadStatus(f"the server answered {status}: {url}", url=url, status=status, hint=advice)
