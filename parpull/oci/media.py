"""Media types of what an image holds, and what the first bytes of a layer say. Pure.

A label is a claim: Docker wrote gzip under a tar's label, and registries keep what they
were given. So the bytes decide, where there are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Compression = Literal["none", "gzip", "zstd"]

__all__ = ["ACCEPT", "Layering", "layering_of", "plain", "sniff"]

OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."
INDEX, MANIFEST, CONFIG = f"{OCI}index.v1+json", f"{OCI}manifest.v1+json", f"{OCI}config.v1+json"
DOCKER_LIST = f"{DOCKER}distribution.manifest.list.v2+json"
DOCKER_MANIFEST = f"{DOCKER}distribution.manifest.v2+json"
DOCKER_CONFIG = f"{DOCKER}container.image.v1+json"

INDEXES = frozenset({INDEX, DOCKER_LIST})
MANIFESTS = frozenset({MANIFEST, DOCKER_MANIFEST})
CONFIGS = frozenset({CONFIG, DOCKER_CONFIG})
SCHEMA1 = frozenset({f"{DOCKER}distribution.manifest.v1+json", f"{DOCKER}distribution.manifest.v1+prettyjws"})
# What servers say that serve files and know nothing of images.
VAGUE = frozenset({"", "application/json", "application/octet-stream", "text/plain", "binary/octet-stream"})
ACCEPT = ", ".join([INDEX, MANIFEST, DOCKER_LIST, DOCKER_MANIFEST])  # of a manifest's request

# Beginnings of a layer's media type -> whether it is foreign: kept elsewhere, by its urls.
TARS = {
    f"{OCI}layer.v1.tar": False,
    f"{OCI}layer.nondistributable.v1.tar": True,
    f"{DOCKER}image.rootfs.diff.tar": False,
    f"{DOCKER}image.rootfs.foreign.diff.tar": True,
}
ENDINGS: dict[str, Compression] = {
    "": "none", "+gzip": "gzip", "+zstd": "zstd", ".gzip": "gzip", ".zstd": "zstd",
}  # fmt: skip

HEAD = 512  # bytes of a layer that `sniff` wants: one header of a tar
GZIP, ZSTD = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"
SKIPPABLE = b"\x2a\x4d\x18"  # after a byte 0x50 to 0x5f: a frame of zstd that holds no data
OTHERS = {b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x04\x22\x4d\x18": "lz4", b"PK\x03\x04": "zip"}


@dataclass(frozen=True, slots=True)
class Layering:
    """How a layer is kept: its compression by its label, and whether it is foreign."""

    compression: Compression
    foreign: bool


def plain(media_type: str | None) -> str:
    """A media type without parameters, in lower case: what can be compared."""
    return (media_type or "").partition(";")[0].strip().lower()


def layering_of(media_type: str) -> Layering | None:
    """What the label says, or None if it is no tar: an artifact's, an encrypted one's, or
    one from the future. None is stored and not unpacked."""
    for beginning, foreign in TARS.items():
        if media_type.startswith(beginning):
            compression = ENDINGS.get(media_type.removeprefix(beginning))
            return None if compression is None else Layering(compression, foreign)
    return None


def sniff(head: bytes) -> str | None:
    """What the first HEAD bytes are: none (a bare tar), gzip or zstd; bzip2, xz, lz4 or zip, which
    layers may not be; None where nothing can be told."""
    if _is_tar(head):  # first: the name of its first file may begin as another format does
        return "none"
    if head.startswith(GZIP):
        return "gzip"
    if head.startswith(ZSTD) or (head[1:4] == SKIPPABLE and 0x50 <= head[0] <= 0x5F):
        return "zstd"
    return next((name for magic, name in OTHERS.items() if head.startswith(magic)), None)


def _is_tar(head: bytes) -> bool:
    """A tar begins with a header whose checksum holds, or with its end: zeros."""
    if len(head) < HEAD:
        return False
    if not any(head[:HEAD]):
        return True
    stated = head[148:156].strip(b" \0")
    if not stated or stated.strip(b"01234567"):
        return False
    return int(stated, 8) == sum(head[:148]) + 8 * 0x20 + sum(head[156:HEAD])
