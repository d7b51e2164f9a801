"""google-cloud-storage's transfer_manager: processes, or threads with --threads before the URL.

URL is the endpoint with the object's name: http://host/name. Parts are 32 MiB as by default, or
smaller where they would be fewer than the workers; its CRC32C is off, for there is none to compare.
"""

import os
import sys

from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.storage import transfer_manager

from bench.clients import task
from bench.rivals.base import BUCKET


def main() -> None:
    worker = "thread" if "--threads" in sys.argv else "process"
    sys.argv = [word for word in sys.argv if word != "--threads"]
    job = task()
    endpoint, _, name = job.url.rpartition("/")
    client = storage.Client(
        project="bench", credentials=AnonymousCredentials(), client_options=ClientOptions(api_endpoint=endpoint)
    )
    bucket = client.bucket(BUCKET)
    workers = job.connections or 8
    if job.urls:
        pairs = [(bucket.blob(os.path.basename(path)), path) for _, path in job.many()]
        transfer_manager.download_many(pairs, worker_type=worker, max_workers=workers, raise_exception=True)
        return
    largest = min(32 << 20, -(-job.size // workers))
    transfer_manager.download_chunks_concurrently(
        bucket.blob(name), job.out, chunk_size=largest, worker_type=worker, max_workers=workers, crc32c_checksum=False
    )


if __name__ == "__main__":
    main()
