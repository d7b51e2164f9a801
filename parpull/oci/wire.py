"""Small requests: manifests, configs, tokens. Blobs are a Client's.

What urllib3 decides by itself is decided as it is for blobs: proxies and authorities come
from the options, never from the environment; redirects are `follow`'s, so that secrets stay
at home; nothing is decoded, nothing is longer than its limit, no cookie is kept.
Any thread may ask.
"""

from __future__ import annotations

import ipaddress
import time
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from .._version import __version__
from ..errors import BadOption, BadResponse, ConnectFailed, ParpullError, Stalled, TLSFailed, redact
from ..settings import ca_file
from ..sources import Request, absolute, follow, origin_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ..options import Options

__all__ = ["Answer", "Wire", "request_of"]

TRIES = 3
PAUSE = 0.2  # seconds before the second; twice as long before the third
PATIENCE = 5.0  # seconds of Retry-After that are waited for here
WHOLE = 120.0  # seconds for one answer: a server must not hold us by a byte a second
STEP = 64 << 10
PASSING = (500, 502, 503, 504)
REDIRECTS = (301, 302, 303, 307, 308)
UNREACHABLE, UNTRUSTED = 7, 60  # libcurl's codes, of errors that it would report


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: names of `headers` in lower case, of several of one name the first;
    `challenges`: all of WWW-Authenticate. `url` is where redirects led, not for eyes."""

    status: int
    url: str
    headers: Mapping[str, str]
    challenges: tuple[str, ...]
    body: bytes

    @property
    def length(self) -> int | None:
        """Content-Length, in bytes."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isdecimal() and len(text) < 20 else None


def request_of(url: str, *secret: str, public: tuple[str, ...] = ()) -> Request:
    """A request whose `secret` header lines stay at the origin of its URL."""
    return Request(
        url, home=origin_of(url), public=(f"User-Agent: parpull/{__version__}", *public), secret=secret
    )  # fmt: skip


class Wire:
    """Asks small questions by these options; its connections are kept until close()."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._pools: dict[str | None, Any] = {}  # by proxy

    def close(self) -> None:
        """Close all connections."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.clear()

    def ask(self, method: str, request: Request, *, limit: int, body: bytes | None = None) -> Answer:
        """The answer, whatever its status. Only a GET is led elsewhere: an address that was signed
        for it is good for nothing else, and a POST holds secrets. Asked again where the network
        or the server fails in passing. Raises ConnectFailed, TLSFailed, Stalled, RedirectRefused,
        and BadResponse for what is longer than `limit` bytes."""
        while True:
            answer = self._insist(method, request, limit, body)
            if answer.status not in REDIRECTS or method != "GET":
                return answer
            request = follow(request, answer.status, absolute(request.url, answer.headers.get("location")))

    def _insist(self, method: str, request: Request, limit: int, body: bytes | None) -> Answer:
        for attempt in range(1, TRIES + 1):
            pause = PAUSE * attempt
            try:
                answer = self._once(method, request, limit, body)
                if answer.status not in PASSING or attempt == TRIES:
                    return answer
                text = answer.headers.get("retry-after", "")
                pause = min(float(text), PATIENCE) if text.isdecimal() else pause
            except ConnectFailed:
                if attempt == TRIES:
                    raise
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _once(self, method: str, request: Request, limit: int, body: bytes | None) -> Answer:
        import urllib3
        from urllib3 import exceptions

        options = self._options
        shown = redact(request.url)
        host = urlsplit(request.url).netloc
        headers = urllib3.HTTPHeaderDict({"Accept-Encoding": "identity"})
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        for line in request.headers:
            name, _, value = line.partition(":")
            headers.add(name.strip(), value.strip())
        until = time.monotonic() + WHOLE
        try:
            response = self._pool(request.url).request(
                method, request.url, body=body, headers=headers, redirect=False, retries=False, preload_content=False,
                timeout=urllib3.Timeout(connect=options.connect_timeout, read=options.stall_timeout),
            )  # fmt: skip
            try:
                found = _read(response, method, limit, until, shown)
            finally:
                response.release_conn()
        except ParpullError:
            raise  # ours may be OSErrors, too
        except exceptions.SSLError as error:
            hint = (
                "is it a registry without TLS? plain http has to be asked for"
                if "WRONG_VERSION" in str(error)
                else None
            )
            raise TLSFailed(
                f"no secure connection to {host}: {_reason(error)}", url=shown, code=UNTRUSTED, hint=hint
            ) from None
        except exceptions.ReadTimeoutError:
            seconds = options.stall_timeout
            raise Stalled(f"nothing arrived for {seconds:g} s: {shown}", url=shown, seconds=seconds) from None
        except (exceptions.HTTPError, OSError) as error:
            raise ConnectFailed(f"{host}: {_reason(error)}", url=shown, code=UNREACHABLE) from None
        lines: dict[str, str] = {}
        for name, value in response.headers.items():
            lines.setdefault(name.lower(), value)
        challenges = tuple(response.headers.getlist("www-authenticate"))
        return Answer(response.status, request.url, lines, challenges, found)

    def _pool(self, url: str) -> Any:
        proxy = _proxy(url, self._options)
        if proxy not in self._pools:  # two threads may make one each: no harm
            self._pools[proxy] = self._make(proxy)
        return self._pools[proxy]

    def _make(self, proxy: str | None) -> Any:
        import urllib3

        options = self._options
        about: dict[str, Any] = {"ca_certs": ca_file(options.ca_file), "cert_reqs": "CERT_REQUIRED", "maxsize": 4}
        if options.cert or options.key:
            about |= {"cert_file": options.cert, "key_file": options.key}
        if proxy is None:
            return urllib3.PoolManager(**about)
        parts = urlsplit(proxy)
        if parts.scheme not in ("http", "https"):
            raise BadOption(
                f"proxy {redact(proxy)}: manifests can be had through http:// and https:// proxies only",
                name="proxy", value=redact(proxy),
            )  # fmt: skip
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            about["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=user)
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        return urllib3.ProxyManager(bare, **about)


def _read(response: Any, method: str, limit: int, until: float, shown: str) -> bytes:
    """The body; of a refusal no more than `limit`, and of what was wanted no less than all."""
    if method == "HEAD":
        return b""
    stated = response.headers.get("content-length", "")
    found = b""
    long = stated.isdecimal() and int(stated[:20]) > limit
    if not long:
        for piece in response.stream(STEP, decode_content=False):
            found += piece
            if len(found) > limit or time.monotonic() > until:
                break
        else:
            return found
    response.close()  # with its unread rest it is of no use for another request
    if response.status >= 300:
        return found[:limit]
    reason = f"the answer has more than {limit:,} bytes" if long or len(found) > limit else "the answer takes for ever"
    raise BadResponse(f"{shown}: {reason}", url=shown, reason=reason)


def _reason(error: BaseException) -> str:
    """What to tell of urllib3's error: its own text names objects, not reasons."""
    seen: BaseException | None = error
    while seen is not None:
        for part in (seen, *seen.args):
            if isinstance(part, OSError) and part.strerror:
                return part.strerror
        seen = seen.__cause__ or seen.__context__
    text = str(error.args[-1] if error.args else error)
    return "the connection broke" if "(" in text or not text else text


def _proxy(url: str, options: Options) -> str | None:
    scheme, host, _ = origin_of(url)
    proxy = options.proxy if isinstance(options.proxy, str) or options.proxy is None else options.proxy.get(scheme)
    if not proxy or _goes_without(host, options.noproxy or ""):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _goes_without(host: str, noproxy: str) -> bool:
    """As libcurl reads NOPROXY: *, hosts with all below them, addresses and networks."""
    for each in noproxy.replace(",", " ").split():
        if each == "*":
            return True
        try:
            if ipaddress.ip_address(host) in ipaddress.ip_network(each, strict=False):
                return True
        except ValueError:
            name = each.lower().strip(".")
            if name and (host.lower() == name or host.lower().endswith(f".{name}")):
                return True
    return False
