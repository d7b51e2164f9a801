"""Run:ai's model streamer from S3 into memory; its threads read parts into one buffer of its own.

The endpoint and the number of threads are in its environment (clouds.py).
"""

import numpy
from runai_model_streamer import FileStreamer  # type: ignore[import-not-found, unused-ignore]

from bench.clients import report, task


def main() -> None:
    job = task()
    with FileStreamer() as streamer:
        streamer.stream_file(job.url, 0, [job.size])
        for _, _, buffer in streamer.get_chunks():
            print(report(memoryview(numpy.asarray(buffer)).cast("B")))


if __name__ == "__main__":
    main()
