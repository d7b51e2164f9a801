"""The SDKs and tools of cloud stores, pointed at stores.Store. Requests are not signed: nobody checks."""

from __future__ import annotations

import shlex
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

from bench.fetching import installed, python, said, scripts, within
from bench.measure import Failed
from bench.rivals.base import BUCKET, FILES, MEMORY, Job, Rival
from bench.rivals.ours import client

_QUEUE = "parts of {} MiB from a queue"


def _s3(job: Job) -> Job:
    return replace(job, url=f"{job.endpoint}/{BUCKET}/{job.key}")


def _boto(job: Job) -> list[str]:
    return client(python("boto3"), "s3_boto", _s3(job))


def _crt(job: Job) -> list[str]:
    return client(python("awscrt"), "s3_crt", _s3(job))


def _s5cmd() -> str:
    python("s5cmd")
    return str(within("s5cmd/bin/s5cmd"))


def _s5cmd_command(job: Job) -> list[str]:
    trust = ["env", f"AWS_CA_BUNDLE={job.ca_file}"] if job.ca_file else []
    s5cmd = [*trust, _s5cmd(), "--log", "error", "--no-sign-request", "--endpoint-url", job.endpoint]
    n = job.connections
    if job.urls:
        keys = [urlsplit(url).path.lstrip("/") for url in job.urls]
        run = shlex.join([*s5cmd, *(["--numworkers", str(n)] if n else []), "run"])
        return ["sh", "-c", f'for key; do echo "cp s3://{BUCKET}/$key $0/$key"; done | {run}', str(job.out), *keys]
    # Parts of 50 MiB are its default; smaller ones where they would be fewer than the connections.
    parts = ["-c", str(n), "-p", str(max(5, min(50, job.size // n >> 20)))] if n else []
    return [*s5cmd, "cp", *parts, f"s3://{BUCKET}/{job.key}", job.file]


def _runai(job: Job) -> list[str]:
    if job.ca_file:
        raise Failed("no TLS with a private CA")
    settings = {
        "AWS_ENDPOINT_URL": job.endpoint,
        "RUNAI_STREAMER_S3_ENDPOINT": job.endpoint,
        "RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING": "0",
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "RUNAI_STREAMER_MEMORY_LIMIT": "-1",
    }
    if job.connections:
        settings["RUNAI_STREAMER_CONCURRENCY"] = str(job.connections)
        settings["RUNAI_STREAMER_CHUNK_BYTESIZE"] = str(-(-job.size // job.connections))
    words = client(python("runai-model-streamer", "runai-model-streamer-s3"), "runai_get", job)
    words[words.index(job.url)] = f"s3://{BUCKET}/{job.key}"
    return ["env", *(f"{name}={value}" for name, value in settings.items()), *words]


def _manager(job: Job, threads: bool) -> list[str]:
    words = client(python("google-cloud-storage"), "gcs_manager", job)
    trust = ["env", f"REQUESTS_CA_BUNDLE={job.ca_file}"] if job.ca_file else []
    return [*trust, *words[:3], *(["--threads"] if threads else []), *words[3:]]


def _gsutil_version() -> str:
    python("gsutil")
    return said([str(scripts() / "gsutil"), "version"]).splitlines()[0]


def _gsutil(job: Job) -> list[str]:
    if not job.ca_file:
        raise Failed("speaks TLS only")
    split = urlsplit(job.url)
    settings = {
        "Credentials:gs_json_host": split.hostname,
        "Credentials:gs_json_port": split.port,
        "Boto:ca_certificates_file": job.ca_file,
        "GSUtil:state_dir": job.out.parent / "gsutil",
        "GSUtil:check_hashes": "never",
    }
    if job.connections:
        settings |= {
            "GSUtil:sliced_object_download_threshold": 1,
            "GSUtil:sliced_object_download_component_size": -(-job.size // job.connections),
            "GSUtil:sliced_object_download_max_components": job.connections,
            "GSUtil:parallel_process_count": 1,
            "GSUtil:parallel_thread_count": job.connections,
        }
    python("gsutil")
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    # Without a folder of settings of its own it would use this user's.
    clean = ["env", "BOTO_CONFIG=/dev/null", "CLOUDSDK_CONFIG=/dev/null"]
    return [*clean, str(scripts() / "gsutil"), "-q", *options, "cp", f"gs://{BUCKET}/{job.key}", job.file]


def _version_of(distribution: str, module: str, *needs: str) -> partial[str]:
    return partial(installed, distribution, module, *needs)


RIVALS = [
    Rival(
        "s3transfer",
        FILES,
        _version_of("boto3", "boto3"),
        _boto,
        server="s3",
        steals=True,
        remark=_QUEUE.format(16),
    ),
    Rival(
        "awscrt",
        FILES | {MEMORY},
        _version_of("awscrt", "awscrt.s3"),
        _crt,
        server="s3",
        steals=True,
        remark=_QUEUE.format(8) + "; in memory each is copied once more, by its callback",
    ),
    Rival(
        "s5cmd",
        FILES,
        lambda: f"s5cmd {said([_s5cmd(), 'version'])}",
        _s5cmd_command,
        server="s3",
        steals=True,
        many=True,
        remark=_QUEUE.format(50),
    ),
    Rival(
        "runai-streamer",
        frozenset({MEMORY}),
        _version_of("runai-model-streamer", "runai_model_streamer", "runai-model-streamer-s3"),
        _runai,
        server="s3",
    ),
    Rival(
        "gcs-manager",
        FILES,
        _version_of("google-cloud-storage", "google.cloud.storage"),
        partial(_manager, threads=False),
        server="gcs",
        steals=True,
        many=True,
        remark=_QUEUE.format(32) + "; processes; CRC32C off",
    ),
    Rival(
        "gcs-manager-threads",
        FILES,
        _version_of("google-cloud-storage", "google.cloud.storage"),
        partial(_manager, threads=True),
        server="gcs",
        steals=True,
        many=True,
        remark=_QUEUE.format(32) + "; threads; CRC32C off",
    ),
    Rival("gsutil", FILES, _gsutil_version, _gsutil, server="gcs", remark="checks off"),
]
