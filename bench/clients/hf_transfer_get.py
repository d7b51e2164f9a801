"""hf_transfer as the Hugging Face hub calls it: parts of 10 MiB, so many at a time (there: 128)."""

import hf_transfer

from bench.clients import task


def main() -> None:
    job = task()
    hf_transfer.download(
        url=job.url, filename=job.out, max_files=job.connections or 128, chunk_size=10 << 20, parallel_failures=0
    )


if __name__ == "__main__":
    main()
