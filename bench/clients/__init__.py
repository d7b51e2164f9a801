"""Programs that the benchmark runs as processes and measures from outside.

Each takes its task on the command line and prints one line of JSON, `report`, once
the bytes are where they belong.
"""

import json
import mmap

SAMPLES = 64


def huge_memory(size: int) -> mmap.mmap:
    """The floor's kind of memory; `mmap.mmap(-1, n)` is shared, without huge pages."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def sample_offsets(size: int) -> list[int]:
    """Where everyone looks, floor included, to notice a part in the wrong place."""
    return [size // SAMPLES * i for i in range(SAMPLES)]


def report(memory: memoryview) -> str:
    """The size and a few bytes of what was fetched, cheap enough not to be measured."""
    sample = bytes(memory[at] for at in sample_offsets(memory.nbytes))
    return json.dumps({"bytes": memory.nbytes, "sample": sample.hex()})
