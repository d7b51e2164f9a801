"""What can go wrong, as a tree.

    ParpullError
    ├── BadOption (ValueError)              name, value
    ├── SourceError
    │   ├── BadURL (ValueError)             url
    │   ├── UnknownScheme (ValueError)      url, scheme
    │   ├── NotFound (FileNotFoundError)    url, status
    │   └── AccessDenied (PermissionError)  url, status, offered
    ├── TransferError (OSError)
    │   ├── ConnectFailed (ConnectionError) url, code
    │   ├── TLSFailed (ConnectionError)     url, code
    │   ├── Stalled (TimeoutError)          url, seconds
    │   ├── BadStatus                       url, status
    │   ├── BadResponse                     url, reason
    │   ├── RangeIgnored                    url
    │   ├── RedirectRefused                 url, location, reason
    │   ├── ObjectChanged                   url, before, after
    │   └── RetriesExhausted                url, attempts, last
    ├── IntegrityError (ValueError)
    │   ├── ChecksumMismatch                algorithm, expected, actual
    │   └── SizeMismatch                    expected, actual
    ├── SinkError (OSError)                 path, errno
    │   ├── NoSpace
    │   ├── InUse                           owner
    │   ├── TargetExists (FileExistsError)
    │   └── BufferTooSmall (ValueError)     needed, given
    └── MemoryBudget (MemoryError)          needed, available

Every error carries its data as attributes, a `hint` where there is something to
do about it, and pickles. URLs are printed without userinfo and query: signed
addresses are secrets. Cancelling raises the standard CancelledError.
Ground floor: knows nothing of the rest of the package.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

__all__ = [
    "AccessDenied",
    "BadOption",
    "BadResponse",
    "BadStatus",
    "BadURL",
    "BufferTooSmall",
    "ChecksumMismatch",
    "ConnectFailed",
    "InUse",
    "IntegrityError",
    "MemoryBudget",
    "NoSpace",
    "NotFound",
    "ObjectChanged",
    "ParpullError",
    "RangeIgnored",
    "RedirectRefused",
    "RetriesExhausted",
    "SinkError",
    "SizeMismatch",
    "SourceError",
    "Stalled",
    "TLSFailed",
    "TargetExists",
    "TransferError",
    "UnknownScheme",
    "redact",
]


def redact(url: str) -> str:
    """The URL without userinfo, query and fragment: fit for logs. What is not quite a
    URL is treated with the same suspicion."""
    scheme, sep, rest = url.strip().partition("://")
    if not sep:
        text = url.strip()
        first, colon, after = text.partition(":")
        if colon and after.startswith("/"):  # "https:/user:password@host"
            scheme, sep, rest = first, ":/", after.lstrip("/")
        else:
            scheme, rest = "", text.lstrip("/")
    cut = min((i for i in map(rest.find, "/?#") if i >= 0), default=len(rest))
    authority, tail = rest[:cut], rest[cut:]
    if "@" not in authority and "@" in tail and _no_port(authority):
        # A password with one of "/?#" in it: the last @ ends it.
        authority, tail = "", tail.rpartition("@")[2]
    bare, mark, _ = (authority.rpartition("@")[2] + tail).partition("?")
    bare = bare.partition("#")[0]
    return f"{scheme}{sep}{bare}" + ("?…" if mark else "")


def _no_port(authority: str) -> bool:
    """Whether what follows the colon can't be a port: then it is a password."""
    _, colon, port = authority.rpartition(":")
    return bool(colon) and not port.isdecimal() and "]" not in port


def _rebuild(kind: type[ParpullError], message: str, data: dict[str, Any]) -> ParpullError:
    return kind(message, **data)


class ParpullError(Exception):
    """The root of parpull's errors. `hint` says what to do about it, or is None."""

    hint: str | None = None
    url: str | None = None

    def __init__(self, message: str, *, hint: str | None = None, **data: Any) -> None:
        super().__init__(message)
        self.message = message
        if hint is not None:
            self.hint = hint
        for name, value in data.items():
            setattr(self, name, value)

    def __str__(self) -> str:
        return self.message

    def _data(self) -> dict[str, Any]:
        data = {key: value for key, value in self.__dict__.items() if key != "message"}
        if getattr(self, "errno", None) is not None:  # OSError keeps it elsewhere
            data["errno"] = self.errno  # type: ignore[attr-defined]
        return data

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self._data())

    def again(self) -> Self:
        """The same error anew: each raise gets a traceback of its own."""
        copy = type(self)(self.message, **self._data())
        copy.__cause__ = self.__cause__
        return copy


class BadOption(ParpullError, ValueError):
    """An option's value makes no sense."""

    name: str
    value: object


class SourceError(ParpullError):
    """The URL does not lead to an object."""


class BadURL(SourceError, ValueError):
    """The text is not a URL."""


class UnknownScheme(SourceError, ValueError):
    """No source serves this scheme."""

    scheme: str


class NotFound(SourceError, FileNotFoundError):
    """The server says 404 or 410."""

    status: int


class AccessDenied(SourceError, PermissionError):
    """The server says 401, 403 or 407, also after the address was resolved anew. `offered`:
    with 407, the schemes by which the proxy lets one show who one is."""

    status: int
    offered: tuple[str, ...] = ()


class TransferError(ParpullError, OSError):
    """The object could not be brought whole."""


class ConnectFailed(TransferError, ConnectionError):
    """No connection, or it broke. `code` is libcurl's."""

    code: int


class TLSFailed(TransferError, ConnectionError):
    """The connection could not be secured. `code` is libcurl's."""

    code: int


class Stalled(TransferError, TimeoutError):
    """Nothing arrived for `seconds`."""

    seconds: float


class BadStatus(TransferError):
    """An HTTP status that ends the transfer."""

    status: int


class BadResponse(TransferError):
    """A response that contradicts the request or itself; `reason` says how."""

    reason: str


class RangeIgnored(TransferError):
    """The server answered a range with the whole object, where that is of no use."""


class RedirectRefused(TransferError):
    """A redirect that must not be followed; `reason` says why."""

    location: str
    reason: str


class ObjectChanged(TransferError):
    """The object is another one than when the transfer began (validators)."""

    before: str | None
    after: str | None


class RetriesExhausted(TransferError):
    """`attempts` failed; `last` is the last failure."""

    attempts: int
    last: ParpullError


class IntegrityError(ParpullError, ValueError):
    """All bytes came, but they are not the right ones."""


class ChecksumMismatch(IntegrityError):
    """The digest differs; both are lower-case hexadecimal."""

    algorithm: str
    expected: str
    actual: str


class SizeMismatch(IntegrityError):
    """The object's size is not the one asked for, in bytes."""

    expected: int
    actual: int


class SinkError(ParpullError, OSError):
    """The destination refuses the bytes."""

    path: str | None = None


class NoSpace(SinkError):
    """The file system, or the quota, is full."""


class InUse(SinkError):
    """Another transfer writes to this destination; `owner` says who, if known."""

    owner: str | None


class TargetExists(SinkError, FileExistsError):
    """The destination exists and may not be overwritten."""


class BufferTooSmall(SinkError, ValueError):
    """The buffer holds `given` bytes, the object needs `needed`."""

    needed: int
    given: int


class MemoryBudget(ParpullError, MemoryError):
    """The object needs more memory than there is, in bytes."""

    needed: int
    available: int
