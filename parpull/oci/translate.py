"""An image in Docker's format, said in OCI's. Pure.

The two differ in the names of media types only, so layers and config stay the blobs that they
are. The manifest becomes another document with another digest: tools that read an OCI layout
(skopeo is one) look for OCI's types in it, and at nothing else.
"""

from __future__ import annotations

import json
from dataclasses import replace

from . import media
from .digest import Digest
from .manifest import Manifest, parse_manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .destination import Image

__all__ = ["in_oci_format"]


def in_oci_format(image: Image) -> Image:
    """The same image with an OCI manifest; itself, if it has one. Types that are unknown stay."""
    if image.manifest.media_type != media.DOCKER_MANIFEST:
        return image
    document: dict[str, Any] = json.loads(image.manifest_body)
    document["mediaType"] = media.MANIFEST
    # `manifest` was parsed from this very document, so that it has as many layers.
    pairs = zip(document["layers"], image.manifest.layers, strict=True)
    for written, read in ((document["config"], image.manifest.config), *pairs):
        written["mediaType"] = _type(read.media_type)
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    manifest = parse_manifest(body)
    assert isinstance(manifest, Manifest)
    found = replace(image.descriptor, media_type=media.MANIFEST, digest=Digest.of(body), size=len(body), data=None)
    return replace(image, descriptor=found, manifest=manifest, manifest_body=body)


def _type(label: str) -> str:
    if label == media.DOCKER_CONFIG:
        return media.CONFIG
    layering = media.layering_of(label)
    if layering is None:
        return label
    foreign = "nondistributable." if layering.foreign else ""
    compression = "" if layering.compression == "none" else f"+{layering.compression}"
    return f"{media.OCI}layer.{foreign}v1.tar{compression}"
