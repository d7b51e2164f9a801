"""Tokens: what of who one is a registry is shown, and for how long that holds.

A registry's 401 says where a token for which scope is to be had; there the keychain's
credentials go, and nowhere else. A token is kept by (host, scope) until its life is nearly
over, so that many blobs cost one, and asked for anew when it is refused before that.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace

from ..errors import AccessDenied, BadResponse, redact
from ..sources.request import basic
from .answers import refused
from .challenge import TOKEN_LIMIT, bearer_of, challenges, parse_token
from .wire import request_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .challenge import Bearer, Token
    from .keychain import Credentials
    from .wire import Answer, Wire

__all__ = ["Access"]

NOT_THIS_WAY = (400, 401, 404, 405)  # to a POST: the server knows only GET, or says so of everything


@dataclass(frozen=True, slots=True)
class Grant:
    """A token as it was received; `bearer` brings the next one for the same scopes."""

    bearer: Bearer
    token: Token
    received: float

    @property
    def header(self) -> str:
        return f"Bearer {self.token.value}"


@dataclass(slots=True)
class Memory:
    """What one host has taught; guarded by Access's lock."""

    bearer: Bearer | None = None  # of its last challenge, without scopes
    basic: str | None = field(default=None, repr=False)
    posts: bool = True  # whether its token server takes POST
    grants: dict[str, Grant] = field(default_factory=dict, repr=False)


class Access:
    """The way into one host, for any thread. `find`: the credentials for it, asked for when
    they are wanted; `url`: the host's."""

    def __init__(
        self,
        url: str,
        wire: Wire,
        find: Callable[[], Credentials | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._wire = wire
        self._find = find
        self._clock = clock
        self._lock = threading.Lock()  # held while a token is asked for: whoever waits takes it
        self._memory = Memory()

    def header(self, scope: str, unlike: str | None = None) -> str | None:
        """The value of Authorization for a scope, by what is known of the host; None if
        nothing is wanted. `unlike`: one that was refused. Raises AccessDenied, RateLimited,
        BadOption and whatever the network brings."""
        with self._lock:
            memory = self._memory
            grant = memory.grants.get(scope)
            if grant is not None and grant.header != unlike and not grant.token.is_due(grant.received, self._clock()):
                return grant.header
            bearer = grant.bearer if grant is not None else memory.bearer
            if bearer is None:
                return memory.basic
            return self._ask(scope, bearer)

    def challenged(self, scope: str, answer: Answer, sent: str | None) -> str | None:
        """What to show after a 401 (or a 403 with insufficient_scope) to what was `sent`; None if
        there is nothing else to show. Raises as header()."""
        bearer = bearer_of(answer.challenges, self._url)
        with self._lock:
            memory = self._memory
            if bearer is None:
                return self._basic(answer, sent)
            memory.bearer = replace(bearer, scopes=(), error="")
            grant = memory.grants.get(scope)
            if grant is None:
                return self._ask(scope, replace(bearer, error=""))
            lacks = [each for each in bearer.scopes if each not in (scope, *grant.bearer.scopes)]
            if grant.header != sent and not lacks:
                return grant.header  # another thread was here first
            scopes = (*grant.bearer.scopes, *lacks)
            return self._ask(scope, replace(bearer, scopes=scopes, error=""))

    def _basic(self, answer: Answer, sent: str | None) -> str | None:
        if not any(each.scheme == "basic" for each in challenges(answer.challenges)):
            return None
        found = self._find()
        if found is None or found.refresh is not None:
            return None
        value = self._memory.basic = basic(found.username, found.password)
        return value if value != sent else None

    def _ask(self, scope: str, bearer: Bearer) -> str:
        """Under the lock: one token, kept."""
        found = self._find()
        began = self._clock()
        answer = self._post(bearer, scope, found) if found is not None else None
        if answer is None:
            answer = self._get(bearer, scope, found)
        if answer.status != 200:
            self._memory.grants.pop(scope, None)
            raise self._refused(answer, bearer, found)
        grant = Grant(bearer, parse_token(answer.body, bearer.realm), began)
        self._memory.grants[scope] = grant
        return grant.header

    def _post(self, bearer: Bearer, scope: str, found: Credentials) -> Answer | None:
        """By OAuth2; None where that is not the way."""
        if not self._memory.posts and found.refresh is None:
            return None
        form = bearer.form([scope], username=found.username, password=found.password, refresh=found.refresh)
        answer = self._wire.ask("POST", request_of(bearer.realm), limit=TOKEN_LIMIT, body=form)
        if answer.status in NOT_THIS_WAY and found.refresh is None:
            return None
        return answer

    def _get(self, bearer: Bearer, scope: str, found: Credentials | None) -> Answer:
        account = found.username if found is not None else None
        secret = [f"Authorization: {basic(found.username, found.password)}"] if found is not None else []
        url = bearer.url([scope], account=account)
        answer = self._wire.ask("GET", request_of(url, *secret), limit=TOKEN_LIMIT)
        if answer.status == 200 and found is not None:
            self._memory.posts = False  # the next one costs one request
        return answer

    def _refused(self, answer: Answer, bearer: Bearer, found: Credentials | None) -> Exception:
        host, realm = redact(self._url).split("/")[2], redact(bearer.realm).partition("?")[0]
        if answer.status in (*NOT_THIS_WAY, 403):
            who = "anybody without credentials" if found is None else "the user" if found.refresh else found.username
            return AccessDenied(
                f"{host} gives no token to {who}: {realm} answered {answer.status}",
                url=redact(self._url), status=answer.status, hint=f"docker login {host}",
            )  # fmt: skip
        if answer.status < 400:
            reason = f"its token server answered {answer.status}"
            return BadResponse(f"{host}: {reason}", url=realm, reason=reason)
        return refused(answer, f"the token server of {host}")
