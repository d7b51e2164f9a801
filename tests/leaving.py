"""What an interrupted transfer leaves, made to measure: these blocks and no others."""

from __future__ import annotations

import os

from parpull import journal
from parpull.files import FileSink
from parpull.journal import FIELDS, Journal
from tests.servers.content import content

BLOCK = 1 << 20
SIZE = 6 * BLOCK + 17  # of the small object: seven blocks


def etag(size=SIZE, version=0):
    """The validator that the origin gives to such an object."""
    return f'"{version}-{size:x}"'


def leave(path, url, blocks, *, size=SIZE, version=0, validator=None):
    """A part file and its journal at `path`, as of a transfer from `url` that landed `blocks`."""
    sink = FileSink(path, url=url, overwrite=True)
    sink.check()
    landing = sink.open(size, followed=False, validator=validator or etag(size, version))
    for index in blocks:
        start = index * BLOCK
        landing.land(start, content(start, min(BLOCK, size - start), version))
    landing.release()
    sink.keep()


def rewrite(path, *, before=lambda: None, **fields):
    """Have the journal at `path` say something else; False if it says nothing at all."""
    made = Journal.read(str(path))
    if made is None:
        return False
    before()
    os.pwrite(made.fd, journal._page({name: getattr(made, name) for name in FIELDS} | fields), 0)
    made.close()
    return True


def part_of(path):
    return path.with_name(path.name + ".parpull-part")


def journal_of(path):
    return path.with_name(path.name + ".parpull")
