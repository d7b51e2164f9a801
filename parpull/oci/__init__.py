"""Container images: what they are called, what they are made of, and in which order to
bring their layers.

    reference   PURE: what a user writes -> registry, repository, tag, digest
    digest      PURE: `algorithm:hex`, and whether bytes hold it
    media       PURE: what a media type says of a layer, and what its first bytes say
    platforms   PURE: which of an index's images a machine can run
    manifest    PURE: index, manifest, config: bytes -> typed, limited, checked
    challenge   PURE: what a 401 asks for, and the token that answers it
    plan        PURE: which layers to memory, which to disk, in which order, how fast
    quarantine  a private folder and a confined process, where unproven layers become files
    untar       that process; the work is done by src/_untar.pyx
    errors      what can be wrong with all that

Third floor: a use of the API.
"""

from __future__ import annotations

from .errors import BadManifest, BadReference, ImageError, UnknownPlatform, UnsafeLayer
from .reference import Reference

__all__ = ["BadManifest", "BadReference", "ImageError", "Reference", "UnknownPlatform", "UnsafeLayer"]
