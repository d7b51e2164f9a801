"""Run:ai's model streamer from S3 into memory; a range (a tensor, to it) a connection, in its own buffer.

The endpoint and the number of threads are in its environment (clouds.py).
"""

import numpy
from runai_model_streamer import FileStreamer
from runai_model_streamer.file_streamer import FileChunks

from bench.clients import report, task


def main() -> None:
    job = task()
    parts = job.parts()
    wanted = FileChunks(0, job.url, [start for start, _ in parts], [stop - start for start, stop in parts])
    with FileStreamer() as streamer:
        streamer.stream_files([wanted])
        pieces = {index: numpy.asarray(buffer).data.cast("B") for _, index, buffer in streamer.get_chunks()}
        print(report(*(pieces[index] for index in range(len(parts)))))


if __name__ == "__main__":
    main()
