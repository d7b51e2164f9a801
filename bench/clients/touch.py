"""Touch memory and give it back, so that the next process finds it warm.

The first touch of a page that a virtual machine's host must still supply costs up to
thirty times that of a warm one; whoever ran first would lose.

Usage: `python -m bench.clients.touch BYTES`
"""

import ctypes
import sys

from bench.clients import huge_memory


def main() -> None:
    size = int(sys.argv[1])
    memory = huge_memory(size)
    ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(memory)), 1, size)


if __name__ == "__main__":
    main()
