"""Container images: what they are called, what they are made of, and in which order to
bring their layers.

    reference   PURE: what a user writes -> registry, repository, tag, digest
    digest      PURE: `algorithm:hex`, and whether bytes hold it
    media       PURE: what a media type says of a layer, and what its first bytes say
    platforms   PURE: which of an index's images a machine can run
    manifest    PURE: index, manifest, config: bytes -> typed, limited, checked
    challenge   PURE: what a 401 asks for, and the token that answers it
    hosts       where an image may be had: mirrors, as containerd's and podman's files say
    answers     PURE: what a registry's answers say of limits, and why it refuses
    wire        small requests
    tokens      what a registry is shown, and for how long that holds
    doors       one host, how it is spoken to, and its blobs as sources for a Client
    registry    a reference -> its manifest and config, proven
    plan        PURE: which layers to memory, which to disk, in which order, how fast
    translate   PURE: an image in Docker's format, said in OCI's
    inflate     one layer along its front: its tar into a pipe, and both digests
    destination what a pull asks of where an image ends up:
    layout        an OCI image layout, which many pulls may write to at once
    archive       an archive for `docker load`
    directory     a plain root filesystem
    quarantine  a private folder and a confined process, where unproven layers become files
    untar       that process; the work is done by src/_untar.pyx
    pulling     a pull: layers through one Client, unpacked along their fronts
    verbs       pull, estimate, inspect: images in one call
    errors      what can be wrong with all that

Third floor: a use of the API.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .errors import BadLayer, BadManifest, BadReference, ImageError, RateLimited, UnknownPlatform, UnsafeLayer
    from .pulling import Pulled
    from .reference import Reference
    from .verbs import estimate, inspect, pull

__all__ = [
    "BadLayer",
    "BadManifest",
    "BadReference",
    "ImageError",
    "Pulled",
    "RateLimited",
    "Reference",
    "UnknownPlatform",
    "UnsafeLayer",
    "estimate",
    "inspect",
    "pull",
]

# Homes of what is not an error: imported when somebody asks, for the process that unpacks
# (untar) starts once a layer and needs none of it.
_HOMES = {"Pulled": "pulling", "Reference": "reference", "estimate": "verbs", "inspect": "verbs", "pull": "verbs"}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"module 'parpull.oci' has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
