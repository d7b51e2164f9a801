"""Index, manifest and config: from bytes that anybody may have written to typed, limited
and checked values. Pure.

What is refused is refused here, once: nothing behind this module looks at JSON. Bytes
are compared with size and digest before they are read. A document that could be read in
two ways (two keys of one name, both layers and manifests, another type than the server
says) is neither.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, field

from ..errors import ChecksumMismatch, SizeMismatch
from . import media
from .digest import Digest
from .errors import BadManifest, UnknownPlatform
from .platforms import PART, Platform, rank

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Never

    from .media import Layering

__all__ = ["Config", "Descriptor", "Index", "Manifest", "parse_config", "parse_manifest", "verify"]

MANIFEST_LIMIT = 4 << 20  # bytes; what registries must take, and no more
CONFIG_LIMIT = 8 << 20
LARGEST = (1 << 63) - 1  # bytes of a blob
MOST = 8192  # descriptors in one document
DEPTH = 4  # indexes within indexes
NAME = "[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
MEDIA_TYPE = re.compile(f"{NAME}/{NAME}")  # RFC 6838
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[\x21-\x7e]+")
KEYS = 64  # characters of a refused text in a message


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A blob as a document names it. `size` is in bytes; `data` are all of them, verified,
    where the document holds them; `urls` are other places, to be asked without credentials."""

    media_type: str
    digest: Digest
    size: int
    urls: tuple[str, ...] = ()
    data: bytes | None = None
    platform: Platform | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def layering(self) -> Layering | None:
        """As a layer, by its label; None if it is not to be unpacked."""
        return media.layering_of(self.media_type)

    @property
    def is_index(self) -> bool:
        """Whether it leads to another index."""
        return self.media_type in media.INDEXES

    @property
    def is_image(self) -> bool:
        """Whether it may lead to an image: not an attestation, a signature or the like."""
        if self.annotations.get("vnd.docker.reference.type") == "attestation-manifest":
            return False
        if self.platform is not None and (self.platform.os, self.platform.architecture) == ("unknown", "unknown"):
            return False
        return self.media_type in media.INDEXES | media.MANIFESTS and self.artifact_type is None


@dataclass(frozen=True, slots=True)
class Index:
    """What one name stands for on several platforms. `depth`: how many indexes led here."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    artifact_type: str | None = None
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    depth: int = 0

    @property
    def platforms(self) -> tuple[str, ...]:
        """What there is, in the index's order."""
        found = [str(one.platform.normal()) for one in self.manifests if one.platform and one.is_image]
        return tuple(dict.fromkeys(found))

    def candidates(self, wanted: Platform) -> tuple[Descriptor, ...]:
        """Those that `wanted` runs, best first, then those that do not say: their config does."""
        images = [one for one in self.manifests if one.is_image]
        named = rank(wanted, [(one.platform, one) for one in images if one.platform is not None])
        return (*named, *(one for one in images if one.platform is None))

    def choose(self, wanted: Platform) -> Descriptor:
        """The best of the candidates. Raises UnknownPlatform, which lists what there is."""
        for one in self.candidates(wanted):
            return one
        there = ", ".join(self.platforms)
        raise UnknownPlatform(
            f"the image is not made for {wanted}",
            hint=f"it is made for {there}" if there else "it holds no images, only other artifacts",
            wanted=str(wanted),
            available=self.platforms,
        )


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image, or another artifact in the shape of one. Layers: the lowest first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    artifact_type: str | None = None
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def is_image(self) -> bool:
        """Whether its layers make a root filesystem; what else there is is stored as it is."""
        return self.artifact_type is None and self.config.media_type in media.CONFIGS

    @property
    def size(self) -> int:
        """Bytes of all layers, as they travel."""
        return sum(layer.size for layer in self.layers)

    def check(self, config: Config) -> None:
        """Raises BadManifest unless the config speaks of as many layers."""
        if len(config.diff_ids) != len(self.layers):
            _bad(f"it has {len(self.layers)} layers and its config {len(config.diff_ids)}", self.config.digest)


@dataclass(frozen=True, slots=True)
class Config:
    """What an image's config says of its layers. `diff_ids`: digests of the uncompressed tars.
    `document`: all that it says, for whom it concerns."""

    platform: Platform
    diff_ids: tuple[Digest, ...]
    document: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)

    @property
    def chain_ids(self) -> tuple[Digest, ...]:
        """Of each layer, the name of what it makes together with those below."""
        chain: list[Digest] = []
        for diff_id in self.diff_ids:
            chain.append(Digest.of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
        return tuple(chain)


def verify(body: bytes, *, digest: Digest | None = None, size: int | None = None) -> None:
    """Raises SizeMismatch or ChecksumMismatch unless the bytes are those that were named."""
    if size is not None and len(body) != size:
        raise SizeMismatch(f"the document has {len(body)} bytes, not {size}", expected=size, actual=len(body))
    if digest is not None and not digest.holds(body):
        actual = Digest.of(body, digest.algorithm)
        raise ChecksumMismatch(
            f"the document's {digest.algorithm} is {actual.hex}, not {digest.hex}",
            algorithm=digest.algorithm, expected=digest.hex, actual=actual.hex,
        )  # fmt: skip


def parse_manifest(
    body: bytes,
    content_type: str | None = None,
    *,
    digest: Digest | None = None,
    size: int | None = None,
    depth: int = 0,
) -> Index | Manifest:
    """What a registry answered. `content_type`: the server's, or that of the descriptor that
    led here; `digest`, `size`: what is known before; `depth`: that of the index that led
    here, plus one. Raises BadManifest, SizeMismatch, ChecksumMismatch."""
    document = _document(body, MANIFEST_LIMIT, digest, size)
    kind = _kind(document, media.plain(content_type), digest)
    manifests, layers = document.get("manifests"), document.get("layers")
    if kind in media.INDEXES:
        if layers is not None or document.get("config") is not None:
            _bad("it is an index and a manifest at once", digest)
        if depth >= DEPTH:
            _bad(f"more than {DEPTH} indexes lie within each other", digest)
        return Index(
            kind,
            _descriptors(manifests, "manifests", digest),
            *_common(document, digest),
            depth,
        )
    if manifests is not None:
        _bad("it is an index and a manifest at once", digest)
    config = _descriptor(document.get("config"), "config", digest)
    return Manifest(kind, config, _descriptors(layers, "layers", digest), *_common(document, digest))


def parse_config(body: bytes, descriptor: Descriptor | None = None) -> Config:
    """An image's config; `descriptor` is the manifest's. Raises as parse_manifest."""
    digest = descriptor.digest if descriptor else None
    document = _document(body, CONFIG_LIMIT, digest, descriptor.size if descriptor else None)
    rootfs = document.get("rootfs")
    if not isinstance(rootfs, dict) or rootfs.get("type") != "layers":
        _bad("the config has no rootfs of layers", digest)
    diff_ids = rootfs.get("diff_ids")
    ids = tuple(
        _digest(one, "diff_ids", digest) for one in _list([] if diff_ids is None else diff_ids, "diff_ids", digest)
    )
    return Config(_platform(document, "config", digest), ids, document)


def _bad(reason: str, digest: Digest | None) -> Never:
    raise BadManifest(
        f"the manifest makes no sense: {reason}", reason=reason, digest=str(digest) if digest else None
    )  # fmt: skip


def _document(body: bytes, limit: int, digest: Digest | None, size: int | None) -> dict[str, Any]:
    if len(body) > limit:
        _bad(f"it has {len(body):,} bytes, of at most {limit:,}", digest)
    verify(body, digest=digest, size=size)
    try:
        document = json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except _Twice as error:
        _bad(f"it says {_short(error.args[0])} twice", digest)
    except (ValueError, RecursionError):  # also not UTF-8, and numbers beyond Python's limit
        _bad("it is not JSON", digest)
    if not isinstance(document, dict):
        _bad("it is not a JSON object", digest)
    return document


class _Twice(Exception):
    """An object has two keys of one name."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise _Twice(key)
        made[key] = value
    return made


def _no_constant(name: str) -> Never:
    raise ValueError(name)


def _short(text: object) -> str:
    """A text out of the document, fit for a message of one line."""
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(text)[:KEYS])
    return shown + ("…" if len(str(text)) > KEYS else "")


def _kind(document: dict[str, Any], served: str, digest: Digest | None) -> str:
    """The media type, on which the document and the server have to agree."""
    stated = document.get("mediaType")
    own = media.plain(_text(stated, "mediaType", digest)) if stated is not None else ""
    if served in media.SCHEMA1 or own in media.SCHEMA1 or document.get("schemaVersion") == 1:
        raise BadManifest(
            "the image is in Docker's first format, which is no longer used",
            hint="skopeo copy --format v2s2 makes the second of it",
            reason="schema 1",
            digest=str(digest) if digest else None,
        )
    version = document.get("schemaVersion")
    if version != 2 or isinstance(version, (bool, float)):
        _bad("its schemaVersion is not 2", digest)
    served = "" if served in media.VAGUE else served
    if own and served and own != served:
        _bad(f"it is {_short(own)}, but was served as {_short(served)}", digest)
    kind = own or served or (media.INDEX if document.get("manifests") is not None else media.MANIFEST)
    if kind not in media.INDEXES | media.MANIFESTS:
        _bad(f"{_short(kind)} is neither an index nor a manifest", digest)
    return kind


def _common(document: dict[str, Any], digest: Digest | None) -> tuple[str | None, Descriptor | None, Mapping[str, str]]:
    """artifactType, subject, annotations."""
    subject = document.get("subject")
    return (
        _optional(_text, document, "artifactType", digest) or None,
        None if subject is None else _descriptor(subject, "subject", digest),
        _optional(_texts, document, "annotations", digest) or {},
    )


def _optional(
    read: Callable[[Any, str, Digest | None], Any], document: dict[str, Any], key: str, digest: Digest | None
) -> Any:
    """None where the key is missing or null, which Go writes for nothing."""
    value = document.get(key)
    return None if value is None else read(value, key, digest)


def _text(value: object, what: str, digest: Digest | None) -> str:
    if not isinstance(value, str):
        _bad(f"{what} is not a text", digest)
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        _bad(f"{what} is not Unicode", digest)
    return value


def _texts(value: object, what: str, digest: Digest | None) -> dict[str, str]:
    if not isinstance(value, dict):
        _bad(f"{what} is not a JSON object", digest)
    return {_text(key, what, digest): _text(text, what, digest) for key, text in value.items()}


def _list(value: object, what: str, digest: Digest | None) -> list[Any]:
    if not isinstance(value, list):
        _bad(f"{what} is not a list", digest)
    if len(value) > MOST:
        _bad(f"{what} has {len(value):,} entries, of at most {MOST:,}", digest)
    return value


def _digest(value: object, what: str, digest: Digest | None) -> Digest:
    try:
        return Digest.parse(_text(value, what, digest))
    except ValueError as error:
        _bad(f"{what}: {error}", digest)


def _complete(platform: dict[str, Any]) -> bool:
    """An index's entry that says half of it says nothing: its config does, and the others are good."""
    return bool(platform.get("os")) and bool(platform.get("architecture"))


def _platform(document: dict[str, Any], what: str, digest: Digest | None) -> Platform:
    os, architecture, variant, version = (
        _optional(_text, document, key, digest) or "" for key in ("os", "architecture", "variant", "os.version")
    )
    if not os or not architecture:
        _bad(f"{what} has a platform without os or architecture", digest)
    if not all(PART.fullmatch(one) for one in (os, architecture, variant, version) if one):
        _bad(f"{what} has a platform with odd letters", digest)  # which would be shown to users
    return Platform(os, architecture, variant, version)


def _descriptors(value: object, what: str, digest: Digest | None) -> tuple[Descriptor, ...]:
    return tuple(_descriptor(one, f"{what}[{n}]", digest) for n, one in enumerate(_list(value, what, digest)))


def _descriptor(value: object, what: str, digest: Digest | None) -> Descriptor:
    if not isinstance(value, dict):
        _bad(f"{what} is not a descriptor", digest)
    size = value.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= LARGEST:
        _bad(f"{what} has no size", digest)
    media_type = media.plain(_text(value.get("mediaType"), f"{what}.mediaType", digest))
    if not MEDIA_TYPE.fullmatch(media_type):
        _bad(f"{what}.mediaType is not a media type", digest)
    own = _digest(value.get("digest"), f"{what}.digest", digest)
    platform = value.get("platform")
    if platform is not None and not isinstance(platform, dict):
        _bad(f"{what}.platform is not a JSON object", digest)
    urls = _optional(_list, value, "urls", digest) or []
    if not all(URL.fullmatch(_text(one, f"{what}.urls", digest)) for one in urls):
        _bad(f"{what}.urls are not URLs", digest)
    return Descriptor(
        media_type,
        own,
        size,
        urls=tuple(urls),
        data=_data(value.get("data"), own, size, what, digest),
        platform=_platform(platform, what, digest) if platform and _complete(platform) else None,
        artifact_type=_optional(_text, value, "artifactType", digest) or None,
        annotations=_optional(_texts, value, "annotations", digest) or {},
    )


def _data(value: object, own: Digest, size: int, what: str, digest: Digest | None) -> bytes | None:
    """The blob within the document. It has to be what the descriptor says, or the document lies."""
    if value is None:
        return None
    try:
        data = base64.b64decode(_text(value, f"{what}.data", digest), validate=True)
    except (binascii.Error, ValueError):
        _bad(f"{what}.data is not base64", digest)
    if len(data) != size or not own.holds(data):
        _bad(f"{what}.data is not what its digest and size say", digest)
    return data
