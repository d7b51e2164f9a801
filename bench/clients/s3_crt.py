"""AWS's common runtime (C, awscrt): its S3 client, into a file by itself, into memory by its callback.

Parts are 8 MiB as by default; the number of connections follows from a target of 100 Gb/s unless given.
"""

import mmap

from awscrt import io
from awscrt.http import HttpHeaders, HttpRequest
from awscrt.s3 import (
    S3Client,
    S3RequestTlsMode,
    S3RequestType,
)

from bench.clients import Task, huge_memory, report, task


def client_for(job: Task) -> S3Client:
    mode, tls = S3RequestTlsMode.DISABLED, None
    if job.tls:
        options = io.TlsContextOptions()
        options.override_default_trust_store_from_path(None, job.ca_file)
        mode, tls = S3RequestTlsMode.ENABLED, io.ClientTlsContext(options).new_connection_options()
    return S3Client(
        region="us-east-1",
        tls_mode=mode,
        tls_connection_options=tls,
        part_size=job.parts(8 << 20)[0][1],
        throughput_target_gbps=100,
        max_active_connections_override=job.connections,
    )


def main() -> None:
    job = task()
    memory = None if job.out else huge_memory(job.size)
    host = job.url.split("/")[2]
    path = "/" + job.url.split("/", 3)[3]

    def keep(chunk: bytes, offset: int, **_: object) -> None:
        assert isinstance(memory, mmap.mmap)
        memory[offset : offset + len(chunk)] = chunk

    where = {"recv_filepath": job.out} if job.out else {"on_body": keep}
    request = client_for(job).make_request(
        type=S3RequestType.GET_OBJECT,
        request=HttpRequest("GET", path, HttpHeaders([("host", host)])),
        **where,
    )
    request.finished_future.result()
    if memory is not None:
        print(report(memoryview(memory)))


if __name__ == "__main__":
    main()
