"""What can be wrong with an image, as a branch of the package's tree.

    ImageError (ParpullError)
    ├── BadReference (ValueError)     reference
    ├── BadManifest                   reason, digest
    ├── UnknownPlatform (LookupError) wanted, available
    ├── BadLayer                      reason, digest
    └── UnsafeLayer                   reason, digest, name

and RateLimited (BadStatus)           status, retry_after, quota

Bytes that are not what their digest or size says are the tree's own ChecksumMismatch
and SizeMismatch. A reference is shown without what might be a password.
"""

from __future__ import annotations

from ..errors import BadStatus, ParpullError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .answers import Quota

__all__ = [
    "BadLayer",
    "BadManifest",
    "BadReference",
    "ImageError",
    "RateLimited",
    "UnknownPlatform",
    "UnsafeLayer",
]


class ImageError(ParpullError):
    """The image can't be pulled, for a reason that is the image's."""


class BadReference(ImageError, ValueError):
    """The text is not an image's name. `reference` is what of it may be shown."""

    reference: str


class BadManifest(ImageError):
    """An index, manifest or config that is malformed, contradicts itself or passes a
    limit; `reason` says how, `digest` which, if known."""

    reason: str
    digest: str | None = None


class UnknownPlatform(ImageError, LookupError):
    """The image isn't made for the platform `wanted`; `available` are those it is made for."""

    wanted: str
    available: tuple[str, ...] = ()


class BadLayer(ImageError):
    """A layer that is what its manifest means, and yet can't be read: cut, corrupt, or of no
    kind that a layer may be; `reason` says which."""

    reason: str
    digest: str | None = None


class UnsafeLayer(ImageError):
    """A layer that would reach outside its folder, or passes a limit; `reason` says how,
    `name` is the entry's."""

    reason: str
    digest: str | None = None
    name: str | None = None


class RateLimited(BadStatus):
    """The registry gives no more for now. `retry_after`: seconds until it does, None if it
    does not say; `quota`: what it counts, if it says so."""

    retry_after: float | None = None
    quota: Quota | None = None
