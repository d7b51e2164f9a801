"""A download in a process of its own that notes how far it is, to be killed at any moment.

`python -m tests.killing URL PATH NOTES CONNECTIONS`: fetches URL into PATH and keeps
writing (bytes received, bytes resumed) into the first 16 bytes of NOTES, which the
kernel has even when the process is gone.
"""

from __future__ import annotations

import mmap
import struct
import sys
import time

import parpull

NOTE = struct.Struct("=qq")


def main() -> None:
    url, path, notes, connections = sys.argv[1:]
    with open(notes, "r+b") as file, mmap.mmap(file.fileno(), NOTE.size) as note:
        with parpull.submit(url, path, connections=int(connections)) as download:
            while not download.done():
                progress = download.progress()
                NOTE.pack_into(note, 0, progress.received, progress.resumed)
                time.sleep(0.0005)
            blob = download.result()
            NOTE.pack_into(note, 0, blob.size, download.progress().resumed)


if __name__ == "__main__":
    main()
