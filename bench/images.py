"""Images: `parpull image pull` beside skopeo copy and umoci unpack, to the same files.

    python -m bench.images [--pace 60000000] [--rounds 3] [--gib 1] [--python PYTHON]

nginx serves a registry of files; what is paced is each connection (--pace 0: nothing is). The image has eight layers,
one of which is `--gib` compressed and the others 0.4 of that together. Both start with nothing and end with a root
filesystem in tmpfs. Wall, CPU of all processes, the largest resident set; and the least that the plan says it can take.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
from typing import TYPE_CHECKING, Any

from bench.harness import scratch
from bench.measure import ROOT, machine, revision
from parpull.oci.digest import Digest
from parpull.oci.media import CONFIG, MANIFEST
from parpull.oci.plan import Layer, Machine, plan_of
from tests.servers import fetch
from tests.servers.real import Nginx

if TYPE_CHECKING:
    from pathlib import Path

RESULTS = ROOT / "bench" / "results"
OTHERS = 7
CONNECTIONS = 16
FILE = 2 << 20  # bytes of each file in a layer


class Registry(Nginx):
    """A registry of files: /v2/app/blobs and /v2/app/manifests."""

    def _configuration(self) -> str:
        kind = f'location ~ /manifests/ {{ default_type "{MANIFEST}"; }}'
        return super()._configuration().replace("autoindex on;", f"autoindex on;\n    {kind}")


def main() -> int:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m bench.images", description=__doc__.splitlines()[0])
    parser.add_argument("--pace", type=int, default=60_000_000, help="bytes a second of a connection, 0: unlimited")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gib", type=float, default=1.0, help="of the largest layer, compressed")
    parser.add_argument("--python", default=sys.executable)
    options = parser.parse_args()
    with scratch() as place:
        layers = _publish(place, options.gib)
        least = _least(layers, options.pace)
        print(f"at least {least.seconds:.2f} s: {least.bound}", flush=True)
        found: dict[str, list[dict[str, float]]] = {"parpull": [], "parpull --ram none": [], "skopeo, umoci": []}
        for number in range(options.rounds):
            for name in found if number % 2 == 0 else reversed(found):
                with Registry(place, pace=options.pace or None) as server:
                    out = place / "out"
                    out.mkdir()
                    run = (
                        _theirs(server, out) if name.startswith("skopeo") else _ours(server, out, options.python, name)
                    )
                    found[name].append(_cost(run))
                    shutil.rmtree(out)
                print(f"{name}: {found[name][-1]}", flush=True)
    rows: list[dict[str, Any]] = [
        {"tool": name, **{key: statistics.median(run[key] for run in runs) for key in runs[0]}, "runs": runs}
        for name, runs in found.items()
    ]
    for row in rows:
        print(f"| {row['tool']} | {row['wall']:.2f} | {row['cpu']:.2f} | {row['rss']:.0f} |")
    ratio = rows[0]["wall"] / rows[2]["wall"]
    print(f"parpull / skopeo and umoci: {ratio:.2f}; parpull / the least: {rows[0]['wall'] / least.seconds:.2f}")
    about = {"machine": machine(), "revision": revision(), "pace": options.pace, "gib": options.gib}
    document = {**about, "least": [least.seconds, least.bound], "rows": rows}
    size = "" if options.gib == 1 else f"-{options.gib:g}"
    (RESULTS / f"images-{'paced' if options.pace else 'unpaced'}{size}.json").write_text(
        json.dumps(document, indent=1) + "\n"
    )
    return 0


def _publish(place: Path, gib: float) -> list[Layer]:
    """Write the registry; its layers. Half of each file is noise, half is text that deflates well."""
    blobs, manifests = place / "v2" / "app" / "blobs", place / "v2" / "app" / "manifests"
    blobs.mkdir(parents=True)
    manifests.mkdir()
    (place / "v2" / "index.html").write_text("{}")
    sizes = [int(gib * (1 << 30)), *[int(0.4 * gib * (1 << 30) / OTHERS)] * OTHERS]
    described, diff_ids, layers = [], [], []
    for number, size in enumerate(sizes):
        tar, packed = place / "layer.tar", place / "layer.tar.gz"
        _layer(tar, number, size)
        with packed.open("wb") as file:
            subprocess.run(["gzip", "-1", "-n", "-c", str(tar)], stdout=file, check=True)
        digest, diff = _digest(packed), _digest(tar)
        described.append({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": str(digest),
                          "size": packed.stat().st_size})  # fmt: skip
        diff_ids.append(str(diff))
        layers.append(Layer(packed.stat().st_size, tar.stat().st_size))
        packed.rename(blobs / str(digest))
        tar.unlink()
    config = json.dumps({"os": "linux", "architecture": "amd64", "config": {},
                         "rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode()  # fmt: skip
    (blobs / str(Digest.of(config))).write_bytes(config)
    about = {"mediaType": CONFIG, "digest": str(Digest.of(config)), "size": len(config)}
    body = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "layers": described, "config": about})
    (manifests / "1").write_text(body)
    (manifests / str(Digest.of(body.encode()))).write_text(body)
    return layers


def _layer(path: Path, number: int, size: int) -> None:
    noise = random.Random(number)
    text = b"".join(b"line %d of a file that is like others\n" % n for n in range(20_000))
    with tarfile.open(path, "w") as tar:
        for index in range(max(int(size * 1.8 / FILE), 1)):
            data = (noise.randbytes(FILE // 2) + text * (FILE // len(text)))[:FILE]
            info = tarfile.TarInfo(f"layer-{number}/{index:05}")
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))


def _digest(path: Path) -> Digest:
    with path.open("rb") as file:
        return Digest.parse(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}")


def _least(layers: list[Layer], pace: int) -> Any:
    cores = os.cpu_count() or 1
    machine_ = Machine(connection=pace or float("inf"), connections=CONNECTIONS, memory=8 << 30, cores=cores)
    return plan_of(layers, machine_, in_order=True)


def _ours(server: Registry, out: Path, python: str, name: str) -> list[list[str]]:
    ram = ["--ram", "none"] if "none" in name else []
    reference = f"{server.HOST}:{server.port}/app:1"
    return [[python, "-m", "parpull", "image", "pull", "-q", "-x", str(CONNECTIONS), "--plain-http", *ram, reference,
             "--to", str(out / "root")]]  # fmt: skip


def _theirs(server: Registry, out: Path) -> list[list[str]]:
    skopeo, environment = fetch.debian("skopeo", "usr/bin/skopeo")
    umoci, _ = fetch.debian("umoci", "usr/bin/umoci")
    os.environ.update(environment)
    source = f"docker://{server.HOST}:{server.port}/app:1"
    return [
        [str(skopeo), "--insecure-policy", "copy", "-q", "--src-tls-verify=false", source, f"oci:{out}/layout:1"],
        [str(umoci), "unpack", "--image", f"{out}/layout:1", str(out / "bundle")],
    ]


def _cost(commands: list[list[str]]) -> dict[str, float]:
    began, cpu, rss = time.monotonic(), 0.0, 0
    for command in commands:
        process = subprocess.Popen(command, cwd="/", stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        cpu += used.ru_utime + used.ru_stime
        rss = max(rss, used.ru_maxrss)
    return {"wall": round(time.monotonic() - began, 2), "cpu": round(cpu, 2), "rss": round(rss / 1024)}


if __name__ == "__main__":
    sys.exit(main())
