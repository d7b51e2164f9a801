"""Doors: one host of an image, how it is spoken to, and the blobs that it gives.

What a host wants to be shown is learnt when it asks, and shown to it alone: not to who it
sends us on to, though that may ask for it. Any thread may go through.
"""

from __future__ import annotations

from urllib.parse import quote

from ..sources import Source, origin_of
from ..sources import resolve as request_for
from .challenge import challenges
from .tokens import Access
from .wire import Wire, request_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..options import OptionFields, Options
    from ..sources import Request
    from .hosts import Host
    from .keychain import Credentials
    from .manifest import Descriptor
    from .wire import Answer

__all__ = ["BlobSource", "Door"]

AUTHORIZATION = "Authorization: "
ERROR_LIMIT = 64 << 10  # bytes of an answer that is not what was asked for
ATTEMPTS = 3  # a challenge, another scope, and no more


class Door:
    """One host and how it is spoken to."""

    def __init__(self, host: Host, options: Options, own: OptionFields, find: Callable[[], Credentials | None]) -> None:
        """`own`: what of the options is this host's alone."""
        options = options.replace(**own)
        self.host = host
        self.own = own
        self.wire = Wire(options)
        self.access = Access(host.url, self.wire, find)
        self.asked = False  # whether it has answered, so that its challenge is known
        self.headers = (*(() if host.mirror else options.headers), *host.headers)
        self.scope = f"repository:{host.repository}:pull"

    def url(self, path: str) -> str:
        """The address of something below /v2/."""
        return f"{self.host.url}/{path}" + (f"?ns={quote(self.host.ns, safe=':')}" if self.host.ns else "")

    def lines(self, authorization: str | None) -> tuple[str, ...]:
        """Headers for this host alone; of two Authorizations the one that the user gave."""
        if authorization is None or any(line.lower().startswith(AUTHORIZATION.lower()) for line in self.headers):
            return self.headers
        return (*self.headers, AUTHORIZATION + authorization)

    def ask(self, method: str, url: str, *, limit: int, accept: str = "*/*") -> Answer:
        """The answer, after what the host wants to be shown was shown."""
        header = self.access.header(self.scope)
        for _ in range(ATTEMPTS):
            request = request_of(url, *self.lines(header), public=(f"Accept: {accept}",))
            answer = self.wire.ask(method, request, limit=limit)
            self.asked = True
            # Who we were sent on to does not get the registry's credentials by asking for them.
            if not _challenges(answer) or origin_of(answer.url) != origin_of(url):
                break
            shown, header = header, self.access.challenged(self.scope, answer, header)
            if header is None or header == shown:
                break
        return answer

    def authorization(self, unlike: str | None) -> str | None:
        """What to show for a blob now. Asks the host what it wants, if it was never asked."""
        if not self.asked:
            self.ask("GET", self.url(""), limit=ERROR_LIMIT)
        return self.access.header(self.scope, unlike)


class BlobSource(Source):
    """A blob of a registry: `client.submit(blob, into, **blob.fields)` fetches and proves it.
    fields: options of its transfer: its size, digest, and what its host's TLS wants."""

    def __init__(self, door: Door, descriptor: Descriptor) -> None:
        self._door = door
        self.descriptor = descriptor
        self.url = door.url(f"{door.host.repository}/blobs/{descriptor.digest}")
        self.fields: OptionFields = {
            **door.own,
            "checksum": f"{descriptor.digest.algorithm}={descriptor.digest.hex}",
            "size": descriptor.size,
        }

    def resolve(self, options: Options, refused: Request | None = None) -> Request:
        """The request with the authorization that is good now."""
        shown = next((line for line in refused.secret if line.startswith(AUTHORIZATION)), "") if refused else ""
        # The end of a redirect that runs out says nothing against the token.
        unlike = shown.removeprefix(AUTHORIZATION) if refused is not None and refused.private else None
        lines = self._door.lines(self._door.authorization(unlike))
        return request_for(self.url, options.replace(headers=lines, auth=None, netrc=False, cookies=None))


def _challenges(answer: Answer) -> bool:
    """Whether it asks for something to be shown: a 401, or a token that is not good for this."""
    if answer.status == 401:
        return True
    return answer.status == 403 and any(
        each.params.get("error") == "insufficient_scope" for each in challenges(answer.challenges)
    )
