"""A small image, made here, and the plainest way to bring it to a destination: without a registry."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import tarfile
from dataclasses import dataclass

import pytest

from parpull.oci import Reference
from parpull.oci.destination import Image
from parpull.oci.digest import Digest
from parpull.oci.inflate import inflate
from parpull.oci.manifest import Descriptor, parse_config, parse_manifest
from parpull.oci.media import CONFIG, MANIFEST
from tests.servers import fetch

LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass
class Small:
    """An image, and the bytes of its layers by digest."""

    image: Image
    blobs: dict[Digest, bytes]
    tars: list[bytes]

    @property
    def layers(self):
        return self.image.manifest.layers


def a_tar(files):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def small(name="registry.example/team/app:v1", layers=None, pack=gzip.compress, suffix="+gzip", **config):
    """layers: for each, its files {name: bytes}; pack, suffix: how they travel."""
    tars = [a_tar(files) for files in layers or [{"etc/a": b"a" * 3000}, {"bin/b": os.urandom(5000)}]]
    packed = [pack(tar) for tar in tars]
    document = {
        "architecture": "amd64", "os": "linux", "config": {}, "history": [],
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(tar)) for tar in tars]}, **config,
    }  # fmt: skip
    config_body = json.dumps(document).encode()

    def described(kind, body):
        return {"mediaType": kind, "digest": str(Digest.of(body)), "size": len(body)}

    body = json.dumps({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": described(CONFIG, config_body),
        "layers": [described(LAYER + suffix, blob) for blob in packed],
    }).encode()  # fmt: skip
    image = Image(
        Reference.parse(name), Descriptor(MANIFEST, Digest.of(body), len(body)),
        parse_manifest(body), body, config_body, parse_config(config_body),
    )  # fmt: skip
    return Small(image, {Digest.of(blob): blob for blob in packed}, tars)


def bring(made, destination, *, memory=(), seen=None, begun=False):
    """What the pull does, one layer after the other; the layers of `memory` stay there."""
    if not begun:
        destination.begin(made.image)
    for index, layer in enumerate(made.layers):
        found = destination.locate(layer)
        if not found.complete and seen is not None:
            seen.append(index)
        body = made.blobs[layer.digest]
        if not found.complete and index not in memory:
            with open(found.path, "wb") as file:
                file.write(body)
        outlet = destination.outlet(index)
        inflate(io.BytesIO(body), outlet.tar, digest=layer.digest, diff_id=made.image.config.diff_ids[index])
        if outlet.folder:
            with tarfile.open(fileobj=io.BytesIO(made.tars[index])) as tar:
                tar.extractall(outlet.folder, filter="tar")
        destination.commit(index, memoryview(body) if index in memory else None)
    return destination.finish()


def tool(package, program=None):
    """run(*arguments) -> (exit code, output) of a program out of a Debian package."""
    try:
        path, environment = fetch.debian(package, program or f"usr/bin/{package}")
    except fetch.Unavailable as error:
        if os.environ.get("PARPULL_REQUIRE") == "all":
            pytest.fail(str(error))
        pytest.skip(str(error))

    def run(*arguments):
        done = subprocess.run(
            [path, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, **environment},
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    return run
