"""Programs of the command line: curl, aria2, axel, lftp, wget2."""

from __future__ import annotations

import shlex
from functools import partial

from bench.fetching import packaged, said
from bench.measure import Failed, available_memory
from bench.rivals.base import FILES, NULL, TMPFS, Job, Rival


def _curl() -> tuple[str, ...]:
    return packaged("curl", "usr/bin/curl")


def _trust(job: Job, option: str) -> list[str]:
    return [option, job.ca_file] if job.ca_file else []


def _first_line(package: str, program: str, option: str = "--version") -> str:
    return said([*packaged(package, program), option]).splitlines()[0]


def _curl_version() -> str:
    return " ".join(said([*_curl(), "--version"]).split()[:2])


def _one_curl(job: Job) -> list[str]:
    if job.connections not in {None, 1}:
        raise Failed("has one connection")
    curl = [*_curl(), "-sSf", *_trust(job, "--cacert")]
    if job.destination == NULL:
        return [*curl, "-o", "/dev/null", "-w", "%{size_download}", job.url]
    return [*curl, "-o", job.file, job.url]


def _curl_parallel(job: Job) -> list[str]:
    if not job.urls:
        raise Failed("takes several objects, not one in parts")
    most = ["--parallel-max", str(job.connections)] if job.connections else []
    wanted = ["--remote-name-all", "--output-dir", str(job.out), *job.urls]
    # --parallel-immediate: as many connections at once as it may, rather than waiting for multiplexing.
    return [
        *_curl(),
        "-sSf",
        "--no-progress-meter",
        "--parallel",
        "--parallel-immediate",
        *most,
        *_trust(job, "--cacert"),
        *wanted,
    ]


def _forked_curl(job: Job, joined: bool) -> list[str]:
    """One shell, one curl and one file a part, as curltest.sh.

    `wait` with an id returns that child's status, so that a failed part is not missed.
    """
    if joined and job.destination == TMPFS and available_memory() < 2.25 * job.size:
        raise Failed("no memory for the parts and what they are joined to")
    one = shlex.join([*_curl(), "-sSf", *_trust(job, "--cacert")])
    url, names = shlex.quote(job.url), []
    lines = ["pids="]
    for number, (start, stop) in enumerate(job.parts(job.number())):
        names.append(shlex.quote(f"{job.file}.{number:03}"))
        lines += [f"{one} -r {start}-{stop - 1} -o {names[-1]} {url} &", 'pids="$pids $!"']
    lines += ["for pid in $pids; do wait $pid || exit; done"]
    if joined:
        lines += [f"cat {' '.join(names)} > {shlex.quote(job.file)}", f"rm {' '.join(names)}"]
    return ["sh", "-ec", "\n".join(lines)]


def _aria2(job: Job) -> list[str]:
    quiet = ["-q", "--no-conf", "--file-allocation=none", *_ca(job, "--ca-certificate")]
    aria2 = [*packaged("aria2", "usr/bin/aria2c"), *quiet, "-d", str(job.out)]
    n = job.connections
    if job.urls:
        # -Z: each URL is an object of its own, not a mirror of one.
        return [*aria2, "-Z", "-s1", *([f"-j{n}"] if n else []), *job.urls]
    if n is not None and n > 16:
        raise Failed("-x is 16 at most")
    return [*aria2, *(["-k1M", f"-x{n}", f"-s{n}"] if n else []), "-o", "object", job.url]


def _ca(job: Job, option: str) -> list[str]:
    return [f"{option}={job.ca_file}"] if job.ca_file else []


def _axel(job: Job) -> list[str]:
    # It takes neither a CA file nor a certificate for an address: over TLS it does not verify.
    insecure = ["--insecure"] if job.ca_file else []
    many = ["-n", str(job.connections)] if job.connections else []
    return [*packaged("axel", "usr/bin/axel"), "-q", *insecure, *many, "-o", job.file, job.url]


def _lftp(job: Job) -> list[str]:
    many = f"-n {job.connections} " if job.connections else ""
    settings = ["set net:socket-buffer 0", "set xfer:use-temp-file no", "set pget:save-status never"]
    if job.connections and job.connections > 1:
        settings += ["set net:connection-limit 0"]
    if job.ca_file:
        settings += [f"set ssl:ca-file {shlex.quote(job.ca_file)}"]
    script = "; ".join([*settings, f"pget {many}{shlex.quote(job.url)} -o {shlex.quote(job.file)}"])
    return [*packaged("lftp", "usr/bin/lftp"), "--norc", "-c", script]


def _wget2(job: Job) -> list[str]:
    quiet = ["-q", "--no-config", "--no-hsts", "--no-robots", *_ca(job, "--ca-certificate")]
    wget2 = [*packaged("wget2", "usr/bin/wget2"), *quiet]
    many = [f"--max-threads={job.connections}"] if job.connections else []
    if job.urls:
        return [*wget2, *many, "-P", str(job.out), *job.urls]
    # --chunk-size should bring a connection a part; 1.99.1 asks for the parts one after the other all the same.
    parts = [f"--chunk-size={-(-job.size // job.connections)}"] if job.connections and job.connections > 1 else []
    return [*wget2, *many, *parts, "-O", job.file, job.url]


RIVALS = [
    Rival("forked-curl", FILES, _curl_version, partial(_forked_curl, joined=False), remark="parts are not joined"),
    Rival("forked-curl-joined", FILES, _curl_version, partial(_forked_curl, joined=True)),
    Rival("curl", FILES | {NULL}, _curl_version, _one_curl, remark="one connection"),
    Rival("curl-parallel", FILES, _curl_version, _curl_parallel, many=True),
    Rival("aria2", FILES, lambda: _first_line("aria2", "usr/bin/aria2c"), _aria2, steals=True, many=True),
    Rival("axel", FILES, lambda: _first_line("axel", "usr/bin/axel"), _axel, steals=True, remark="TLS is not verified"),
    Rival("lftp-pget", FILES, lambda: _first_line("lftp", "usr/bin/lftp"), _lftp),
    Rival(
        "wget2",
        FILES,
        lambda: _first_line("wget2", "usr/bin/wget2"),
        _wget2,
        many=True,
        remark="one connection for an object, seen with 1.99.1",
    ),
]
