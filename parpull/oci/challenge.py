"""What a registry's 401 asks for, how a token is asked for, and what its server answers. Pure.

The one who asks for credentials is not the one who gets them: the realm is the
registry's word for where to take them. So it has to be an https URL, unless the registry
itself is spoken to in plain http. A token is a secret: no message and no repr holds one.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from ..errors import BadResponse, redact

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Never

    from .reference import Reference

__all__ = ["Bearer", "Challenge", "Token", "bearer_of", "challenges", "parse_token", "scope_of"]

WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
SCHEME = re.compile(rf"({WORD})(?:[ \t]+|(?=,|$))")
PARAM = re.compile(rf'({WORD})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({WORD})(?=[ \t]*(?:,|$)))')
TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))")
BETWEEN = re.compile(r"[ \t]*(?:,[ \t]*)*")
QUOTED = re.compile(r"\\(.)")
VISIBLE = re.compile(r"[\x21-\x7e]+")  # what may stand in a header: a token with a line break is an attack

CLIENT = "parpull"
SHORTEST = 60  # seconds that a token lasts if nobody says, or says less
LONGEST = 86400
EARLY = 0.25  # of a token's life that is left when the next one is asked for
TOKEN_LIMIT = 1 << 20  # bytes of an answer


@dataclass(frozen=True, slots=True)
class Challenge:
    """One of the ways in: scheme and the names of its parameters in lower case."""

    scheme: str
    params: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token is wanted. realm: the URL where to ask for one. scopes: for what. error: why the
    last one would not do, as insufficient_scope."""

    realm: str
    service: str = ""
    scopes: tuple[str, ...] = ()
    error: str = ""

    def url(self, scopes: Iterable[str] = (), *, account: str | None = None) -> str:
        """The address of a GET for a token of these scopes and the challenge's own; the
        credentials, if any, go into its Authorization."""
        parts = urlsplit(self.realm)
        query = [("service", self.service)] if self.service else []
        query += [("scope", scope) for scope in self._all(scopes)]
        query += [("account", account)] if account else []
        old = parse_qsl(parts.query, keep_blank_values=True)
        return urlunsplit(parts._replace(query=urlencode([*old, *query])))

    def form(
        self,
        scopes: Iterable[str] = (),
        *,
        username: str | None = None,
        password: str | None = None,
        refresh: str | None = None,
    ) -> bytes:
        """The body of a POST to the realm by OAuth2, by password or by a refresh token (which is
        what a username of <token> brings). It holds secrets."""
        about = {"service": self.service, "client_id": CLIENT, "scope": " ".join(self._all(scopes))}
        if refresh is not None:
            return urlencode({"grant_type": "refresh_token", "refresh_token": refresh, **about}).encode()
        given = {"username": username or "", "password": password or ""}
        return urlencode({"grant_type": "password", **given, **about, "access_type": "offline"}).encode()

    def _all(self, scopes: Iterable[str]) -> list[str]:
        return list(dict.fromkeys([*self.scopes, *scopes]))


@dataclass(frozen=True, slots=True)
class Token:
    """A token and how long it is good, in seconds from the answer: clocks differ, so when its
    server says that it was issued does not count. `refresh` brings the next, where there is one."""

    value: str = field(repr=False)
    seconds: float = SHORTEST
    refresh: str | None = field(default=None, repr=False)

    def is_due(self, received: float, now: float) -> bool:
        """Whether the next one is to be asked for, so that a long pull never meets a 401."""
        return now - received >= self.seconds * (1 - EARLY)


def scope_of(reference: Reference, actions: str = "pull") -> str:
    """What a token has to be good for."""
    return f"repository:{reference.repository}:{actions}"


def challenges(values: Iterable[str]) -> tuple[Challenge, ...]:
    """All challenges of the WWW-Authenticate headers, each of which may hold several. What makes
    no sense is passed over with the rest of its header."""
    found: list[Challenge] = []
    for value in values:
        found += _challenges(value)
    return tuple(found)


def bearer_of(values: Iterable[str], url: str) -> Bearer | None:
    """The token that a registry at `url` asks for, or None if it asks for none. Raises
    BadResponse where the credentials must not go where it says."""
    for challenge in challenges(values):
        if challenge.scheme != "bearer":
            continue
        params = challenge.params
        realm = params.get("realm", "")
        _check_realm(realm, url)
        scopes = tuple(dict.fromkeys(params.get("scope", "").split()))
        return Bearer(realm, params.get("service", ""), scopes, params.get("error", ""))
    return None


def parse_token(body: bytes, url: str) -> Token:
    """What a token's server answered; `url` is the realm's, for the message. Raises BadResponse."""
    if len(body) > TOKEN_LIMIT:
        _bad(url, "the answer is too long for a token")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        _bad(url, "the answer is not JSON")
    if not isinstance(document, dict):
        _bad(url, "the answer is not a JSON object")
    value = document.get("token") or document.get("access_token")
    if not isinstance(value, str) or not VISIBLE.fullmatch(value):
        _bad(url, "the answer holds no token")
    stated = document.get("expires_in")
    if isinstance(stated, bool) or not isinstance(stated, (int, float)):
        stated = SHORTEST
    seconds = float(min(stated, LONGEST)) if stated > SHORTEST else float(SHORTEST)  # NaN is not more
    refresh = document.get("refresh_token")
    return Token(value, seconds, refresh if isinstance(refresh, str) and refresh else None)


def _challenges(value: str) -> list[Challenge]:
    found: list[Challenge] = []
    at = BETWEEN.match(value).end()  # type: ignore[union-attr]  # it matches nothing, too
    while at < len(value):
        scheme = SCHEME.match(value, at)
        if scheme is None:
            break
        at = scheme.end()
        params: dict[str, str] = {}
        single = TOKEN68.match(value, at)
        if single is not None and PARAM.match(value, at) is None:
            at = single.end()
        else:
            while param := PARAM.match(value, at):
                text = param[3] if param[2] is None else QUOTED.sub(r"\1", param[2])
                params.setdefault(param[1].lower(), text)
                at = BETWEEN.match(value, param.end()).end()  # type: ignore[union-attr]
        found.append(Challenge(scheme[1].lower(), params))
        at = BETWEEN.match(value, at).end()  # type: ignore[union-attr]
    return found


def _check_realm(realm: str, url: str) -> None:
    try:
        parts = urlsplit(realm)
        _ = parts.port
    except ValueError:
        _bad(url, "it asks for a token from what is not a URL")
    if not VISIBLE.fullmatch(realm) or not parts.hostname or "@" in parts.netloc or parts.fragment:
        _bad(url, "it asks for a token from what is not a URL")
    if parts.scheme != "https" and not (parts.scheme == "http" and url.startswith("http://")):
        _bad(url, "it asks for a token from where credentials could be read by others")


def _bad(url: str, reason: str) -> Never:
    raise BadResponse(f"{redact(url)}: {reason}", url=redact(url), reason=reason)
