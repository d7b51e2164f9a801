"""Images for the tests of pulls: tars member by member, packed in any way, and kept in a Store."""

from __future__ import annotations

import gzip
import importlib
import io
import json
import random
import sys
import tarfile

from tests.servers.registries import CONFIG, LAYER, MANIFEST, digest_of

__all__ = ["MIB", "PACKS", "a_tar", "base_layers", "entry", "folder", "gz", "hard_layers", "plain", "publish", "zstd"]

MIB = 1 << 20


def entry(name, data=b"", **fields):
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), 0o644, 1_600_000_000
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def folder(name, **fields):
    return entry(name, type=tarfile.DIRTYPE, **{"mode": 0o755, **fields})


def a_tar(*entries):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def zstd(data):
    module = importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    return module.compress(data)


def gz(data):
    return gzip.compress(data, mtime=0)


def plain(data):
    return data


PACKS = {gz: "+gzip", zstd: "+zstd", plain: ""}


def publish(store, tars, *names, packs=(gz,), diff_ids=None, **change):
    """Keep an image of these tars, packed in turn; its layers' descriptors. change: of the first of them."""
    layers = []
    for index, tar in enumerate(tars):
        pack = packs[index % len(packs)]
        layers.append(store.blob(pack(tar), LAYER + PACKS[pack]))
    layers[0].update(change)
    config = {
        "os": "linux", "architecture": "amd64", "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids or [digest_of(tar) for tar in tars]},
    }  # fmt: skip
    described = store.blob(json.dumps(config).encode(), CONFIG)
    store.document({"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": layers}, *names)
    return layers


def base_layers():
    """Three layers that replace, hide and link to what lies below."""
    noise = random.Random(7).randbytes(9 * MIB)
    below = a_tar(
        folder("etc"), entry("etc/hosts", b"one"), entry("etc/gone", b"x"), folder("opt"), entry("opt/old", b"old"),
        folder("var"), folder("var/lib"), entry("var/lib/kept", b"kept"),
        entry("bin-su", b"su", mode=0o4755), entry("sh", type=tarfile.SYMTYPE, linkname="/bin/sh"),
    )  # fmt: skip
    middle = a_tar(entry("large", noise), entry("twin", type=tarfile.LNKTYPE, linkname="large"))
    top = a_tar(
        folder("etc"), entry("etc/.wh.gone"), entry("etc/hosts", b"two"), folder("opt"), entry("opt/.wh..wh..opq"),
        entry("opt/new", b"new"), entry("sh2", type=tarfile.LNKTYPE, linkname="bin-su"),
    )  # fmt: skip
    return [below, middle, top]


def hard_layers():
    """What layers may hold beside files: owners, modes, attributes, devices, long names, times, holes."""
    long = "/".join(["d" * 90] * 3)
    capability = b"\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0"  # cap_net_bind_service
    attributes = {"SCHILY.xattr.user.name": "value", "SCHILY.xattr.security.capability": capability.decode("latin-1")}
    below = a_tar(
        folder("shared", mode=0o2775, uid=1000, gid=2000), folder("sticky", mode=0o1777),
        entry("shared/of-others", b"x", uid=1234, gid=4321, mtime=1_234_567_890.123456789),
        entry("ping", b"elf", mode=0o755, pax_headers=attributes),
        entry("fifo", type=tarfile.FIFOTYPE), entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        entry("disk", type=tarfile.BLKTYPE, devmajor=8, devminor=0, mode=0o660, gid=6),
        *[folder("/".join(long.split("/")[: n + 1])) for n in range(3)], entry(f"{long}/{'f' * 200}", b"long"),
        entry("dangling", type=tarfile.SYMTYPE, linkname="/no/such/place"), entry("ünïcode ☃", b"snow"),
        entry("zeros", bytes(300_000)), entry("empty"), entry("read-only", b"r", mode=0o400),
        folder("kept-out", mode=0o000), entry("becomes-a-folder", b"f"), folder("becomes-a-file"),
    )  # fmt: skip
    top = a_tar(
        folder("becomes-a-folder"), entry("becomes-a-folder/in", b"in"), entry("becomes-a-file", b"file"),
        entry("shared/of-others", b"y", uid=1, gid=1), entry(".wh.fifo"), entry("nowhere/parent", b"implied"),
    )  # fmt: skip
    return [below, top]
