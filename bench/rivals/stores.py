"""One nginx that a plain client, an S3 SDK and a GCS SDK can all read from.

A real server, so that what is measured is the client: the fakes that SDKs are tested with are
slower than any of them. Reads of S3 are a HEAD and ranges below /BUCKET/; reads of GCS are a JSON
document with the size, and ranges with `alt=media`. Signatures are not looked at, and there is no
CRC32C to compare with.
"""

from __future__ import annotations

import json
from pathlib import Path

from bench.rivals.base import BUCKET
from tests.servers.real import Nginx


class Store(Nginx):
    """What lies in ROOT, without folders, as /NAME, as /BUCKET/NAME, and in GCS's JSON API."""

    def _configuration(self) -> str:
        api = f"/storage/v1/b/{BUCKET}/o/"
        about = self.folder / "about"
        about.mkdir(exist_ok=True)
        for path in Path(self.root).iterdir():
            if path.is_file():
                link = self.url(f"download{api}{path.name}?alt=media")
                (about / path.name).write_text(json.dumps(_metadata(path.name, path.stat().st_size, link)))
        media = "if ($arg_alt = media) { rewrite ^.*/o/(.*)$ /$1 last; }"
        locations = (
            f"location = /{BUCKET} {{ return 200; }}\n"
            f"    location /{BUCKET}/ {{ alias {self.root}/; }}\n"
            f"    location /about/ {{ root {self.folder}; default_type application/json; }}\n"
            f"    location /download{api} {{ rewrite ^.*/o/(.*)$ /$1 last; }}\n"
            f"    location {api} {{ {media} rewrite ^.*/o/(.*)$ /about/$1 last; }}\n"
        )
        before, after, rest = super()._configuration().partition("autoindex on;")
        return f"{before}{after}\n    {locations}{rest}"


def _metadata(name: str, size: int, link: str) -> dict[str, object]:
    fixed = {"kind": "storage#object", "bucket": BUCKET, "generation": "1", "metageneration": "1"}
    described = {"id": f"{BUCKET}/{name}/1", "name": name, "size": str(size), "etag": "CAE=", "mediaLink": link}
    return {**fixed, **described, "contentType": "application/octet-stream", "storageClass": "STANDARD"}
