"""The software bill of materials of the bundled libraries: CycloneDX, for .dist-info/sboms/ (PEP 770)."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from .sources import Pin

__all__ = ["document", "write"]

NAMESPACE = uuid.UUID("8b0f4d52-7a52-4a2f-9d1c-6a9c1f0c8e55")  # made once, for serial numbers that can be reproduced


def document(bundled: Iterable[Pin]) -> dict[str, object]:
    """The same pins give the same document."""
    components = [
        {
            "type": "library",
            "bom-ref": f"pkg:generic/{pin.name}@{pin.version}",
            "name": pin.name,
            "version": pin.version,
            "purl": f"pkg:generic/{pin.name}@{pin.version}",
            "cpe": pin.cpe,
            "licenses": [{"license": {"id": pin.licence}}],
            "hashes": [{"alg": "SHA-256", "content": pin.sha256}],
            "externalReferences": [{"type": "distribution", "url": pin.url}],
        }
        for pin in sorted(bundled, key=lambda pin: pin.name)
    ]
    serial = uuid.uuid5(NAMESPACE, json.dumps(components))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {"component": {"type": "library", "name": "parpull", "bom-ref": "pkg:pypi/parpull"}},
        "components": components,
        "dependencies": [{"ref": "pkg:pypi/parpull", "dependsOn": [each["bom-ref"] for each in components]}],
    }


def write(path: Path, bundled: Iterable[Pin]) -> None:
    """As JSON at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document(bundled), indent=1) + "\n", encoding="utf-8")
