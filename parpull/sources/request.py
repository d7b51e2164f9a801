"""Requests: a URL with the headers that may be sent to it.

Everything that is a secret of the user (headers, auth, netrc, cookies, the client's
certificate) is bound to the origin of the URL that the user gave. One function,
`follow`, decides each hop of a redirect; libcurl follows nothing by itself.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from urllib.parse import quote, unquote, urljoin, urlsplit

from .._version import __version__
from ..errors import BadOption, BadURL, RedirectRefused, UnknownScheme, redact

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..options import Options

__all__ = ["Request", "Source", "absolute", "follow", "origin_of", "resolve"]

SCHEMES = ("http", "https")
PORTS = {"http": 80, "https": 443}
MAX_HOPS = 10
FOLLOWED = (301, 302, 303, 307, 308)
# Everything a URL may hold; libcurl wants the rest percent-encoded.
SAFE = "!#$%&'()*+,/:;=?@[]~-._|"

Origin = tuple[str, str, int]


class Request:
    """What to ask: `url` and the header lines for it.

    origin: where that is, read from the URL where nobody has. public: headers that any server may see. secret: those of
    `home`, the origin that the user named. hops: redirects behind us; secure: https was seen."""

    __slots__ = ("home", "hops", "origin", "public", "secret", "secure", "url")

    def __init__(
        self,
        url: str,
        *,
        home: Origin,
        origin: Origin | None = None,
        public: tuple[str, ...] = (),
        secret: tuple[str, ...] = (),
        hops: int = 0,
        secure: bool = False,
    ) -> None:
        self.url = url
        self.origin = origin or origin_of(url)
        self.home = home
        self.public = public
        self.secret = secret
        self.hops = hops
        self.secure = secure or home[0] == "https"

    @property
    def private(self) -> bool:
        """Whether the user's secrets may go to this URL."""
        return self.origin == self.home

    @property
    def headers(self) -> tuple[str, ...]:
        """The header lines to send."""
        return self.public + (self.secret if self.private else ())

    def __repr__(self) -> str:
        return f"Request({redact(self.url)!r}, hops={self.hops})"


class Source(ABC):
    """What may be given to a Client instead of a URL: an object whose request is not a
    matter of its URL alone, because a token comes along that does not last."""

    url: str

    @abstractmethod
    def resolve(self, options: Options, refused: Request | None = None) -> Request:
        """The request to begin with. May ask the network: it is called on the caller's
        thread; and on a thread of its own with the request that was `refused`, which is
        private unless it was the end of a redirect. An error ends the transfer."""


def origin_of(url: str) -> Origin:
    """(scheme, host, port): what credentials are bound to. BadURL if there is none."""
    try:
        parts = urlsplit(url)
        port = PORTS.get(parts.scheme, 0) if parts.port is None else parts.port
    except ValueError:  # its text may quote a password
        raise BadURL(
            f"not a URL: {redact(url)}", url=redact(url), hint="its host, or the port behind it, is not well written"
        ) from None
    return parts.scheme, (parts.hostname or "").rstrip("."), port


def resolve(url: str, options: Options) -> Request:
    """The request for a URL as the user wrote it. No network.

    Raises BadURL or UnknownScheme; userinfo becomes an Authorization header."""
    if not isinstance(url, str):
        raise BadURL(f"a URL is a text, not {type(url).__name__}", url=str(url))
    stripped = url.strip()
    if not stripped.isprintable() and any(ord(c) < 33 or ord(c) == 127 for c in stripped):
        raise BadURL("the URL holds control characters", url=redact(url))
    try:
        text = quote(stripped, safe=SAFE)
    except UnicodeEncodeError:
        raise BadURL("the URL holds what is no text", url="…") from None
    scheme, host, _ = origin = origin_of(text)
    if "://" not in text or not scheme:
        raise BadURL(f"not a URL: {redact(url)}", url=redact(url), hint=f"did you mean https://{redact(url)} ?")
    if scheme not in SCHEMES:
        known = " and ".join(f"{name}://" for name in SCHEMES)
        raise UnknownScheme(
            f"no source for {scheme}:// addresses", url=redact(url), scheme=scheme, hint=f"there are those for {known}"
        )
    if not host:
        raise BadURL(f"the URL names no host: {redact(url)}", url=redact(url), hint="write https://HOST/PATH")
    parts = urlsplit(text)
    auth = options.auth
    if parts.username is not None:
        auth = auth or (unquote(parts.username), unquote(parts.password or ""))
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()
    secret = list(options.headers)
    named = {line.partition(":")[0].lower() for line in secret}
    if auth is None and options.netrc and "authorization" not in named:
        auth = _from_netrc(host, options.netrc)
    if auth is not None and "authorization" not in named:
        secret.append(f"Authorization: {basic(*auth)}")
    cookies = options.cookies
    if cookies and "cookie" not in named:
        if isinstance(cookies, os.PathLike):
            from .cookies import cookies_for

            cookies = cookies_for(bare, cookies)
        secret += [f"Cookie: {cookies}"] if cookies else []
    # A user agent of the user's own is for every hop; a default one as well.
    agents = [line for line in secret if line.lower().startswith("user-agent:")]
    secret = [line for line in secret if line not in agents]
    public = tuple(agents) or (f"User-Agent: parpull/{__version__}",)
    return Request(bare, home=origin, origin=origin, public=public, secret=tuple(secret))


def _from_netrc(host: str, given: bool | str) -> tuple[str, str] | None:
    """(user, password) of a host in ~/.netrc, or in the file of this path; None if it
    has none. BadOption, without what stands in it, when it can't be used."""
    import netrc

    path = os.path.expanduser("~/.netrc") if given is True else str(given)
    try:
        # Without a path the module itself looks whether others can read the file.
        found = (netrc.netrc() if given is True else netrc.netrc(path)).authenticators(host)
    except FileNotFoundError:
        return None
    except netrc.NetrcParseError as error:
        if "permissive" in error.msg or "owner" in error.msg:
            what, hint = "others may read or write it", f"chmod 600 {path}"
        else:
            what, hint = f"line {error.lineno} is broken", "lines are: machine HOST login USER password PASSWORD"
        raise BadOption(f"netrc file {path}: {what}", name="netrc file", value=path, hint=hint) from None
    except (OSError, UnicodeError) as error:
        what = getattr(error, "strerror", None) or "it is no text"
        raise BadOption(f"netrc file {path}: {what}", name="netrc file", value=path) from None
    return (found[0] or "", found[2] or "") if found else None


def basic(user: str, password: str) -> str:
    """The value of an Authorization header (RFC 7617)."""
    import binascii

    raw = f"{user}:{password}".encode()
    return "Basic " + binascii.b2a_base64(raw, newline=False).decode("ascii")


def absolute(url: str, location: str | None) -> str | None:
    """A Location as an address: it may be relative to the `url` that was asked."""
    try:
        return urljoin(url, location) if location and not urlsplit(location).scheme else location
    except ValueError:
        return location


def follow(request: Request, status: int, location: str | None) -> Request:
    """The request for the next hop, or RedirectRefused.

    Refused: no or a foreign Location, more than 10 hops, and http once https was
    seen anywhere in the chain."""
    shown = redact(location or "")

    def refused(reason: str, hint: str | None = None) -> RedirectRefused:
        return RedirectRefused(
            f"a redirect to {shown or 'nowhere'} was not followed: {reason}",
            url=redact(request.url),
            location=shown,
            reason=reason,
            hint=hint,
        )

    if status not in FOLLOWED:
        raise refused(f"status {status} is no redirect to follow")
    if not location:
        raise refused("it names no location")
    if not location.isprintable():
        raise refused("its location holds control characters")
    location = quote(location.strip(), safe=SAFE)
    try:
        scheme, host, _ = origin = origin_of(location)
    except BadURL:
        raise refused("its location is not a URL") from None
    if scheme not in SCHEMES or not host:
        raise refused("it is no http or https address")
    if request.secure and scheme != "https":
        raise refused("it leads from https to http", "ask the server's operator for an https address")
    if request.hops >= MAX_HOPS:
        raise refused(f"more than {MAX_HOPS} redirects")
    return Request(
        location,
        home=request.home,
        origin=origin,
        public=request.public,
        secret=request.secret,
        hops=request.hops + 1,
        secure=request.secure or scheme == "https",
    )
