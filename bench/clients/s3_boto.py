"""boto3's transfer manager (s3transfer, threads): parts of 16 MiB, 1 MiB from each read to the file.

URL is the endpoint with bucket and key: http://host/bucket/key. Without --connections its defaults:
10 threads, 8 MiB.
"""

import boto3
from boto3.s3.transfer import S3Transfer, TransferConfig
from botocore import UNSIGNED
from botocore.config import Config

from bench.clients import task


def main() -> None:
    job = task()
    scheme, _, host, bucket, key = job.url.split("/", 4)
    config = Config(
        signature_version=UNSIGNED,
        s3={"addressing_style": "path"},
        max_pool_connections=job.connections or 10,
        response_checksum_validation="when_required",
    )
    client = boto3.client(
        "s3", endpoint_url=f"{scheme}//{host}", region_name="us-east-1", config=config, verify=job.ca_file or True
    )
    tuned = (
        {}
        if job.connections is None
        else {"max_concurrency": job.connections, "multipart_chunksize": job.parts(16 << 20)[0][1]}
    )
    transfer = TransferConfig(io_chunksize=1 << 20, preferred_transfer_client="classic", **tuned)
    S3Transfer(client, transfer).download_file(bucket, key, job.out)


if __name__ == "__main__":
    main()
