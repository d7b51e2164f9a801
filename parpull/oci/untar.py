"""The process that unpacks: `python -m parpull.oci.untar ROOT-FD {options}`.

Its standard input is a layer's tar, unproven; descriptor ROOT-FD an empty folder, or the
layers below. It gives up what it doesn't need (`_untar.confine`) before it reads the first
byte, and says on standard output, as one line of JSON, what it has made or why it has not:
told | {"unsafe", "name"} | {"errno", "name"}. Started by quarantine, by nobody else.
"""

from __future__ import annotations

import json
import os
import resource
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["main"]

# chown, dac_override, fowner, fsetid, mknod, setfcap; and for trusted.* attributes sys_admin,
# of which Landlock and the refused calls leave little else.
KEEP = sum(1 << bit for bit in (0, 1, 3, 4, 27, 31))
SYS_ADMIN = 1 << 21
FILES = 4096  # descriptors: folders within folders, while they are removed
MEMORY = 2 << 30  # bytes of its own data: a million names, and headroom


def main() -> None:
    """Unpack, say how it went, and end at once."""
    from .._untar import Unsafe, Untar, confine  # which Linux alone has

    root = int(sys.argv[1])
    options = json.loads(sys.argv[2])
    privileged = options["overlay"] and not options["private"]
    os.umask(0)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NPROC, 0)
    _limit(resource.RLIMIT_NOFILE, FILES)
    if not os.environ.get("ASAN_OPTIONS"):  # whose shadow is larger
        _limit(resource.RLIMIT_DATA, MEMORY)
    said: dict[str, Any]
    try:
        unpacking = Untar(0, root, **options)
        steps = confine(root, KEEP | (SYS_ADMIN if privileged else 0))
        unpacking.run()
        said = {**unpacking.told(), "confined": steps}
    except Unsafe as error:
        said = {"unsafe": error.args[0], "name": os.fsdecode(error.args[1])}
    except OSError as error:
        said = {"errno": error.errno, "name": error.filename}
    except (MemoryError, RecursionError):
        said = {"unsafe": "it takes more memory than a layer may", "name": None}
    text = json.dumps(said).encode() + b"\n"
    while text:
        text = text[os.write(1, text) :]
    os._exit(0)


def _limit(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))


if __name__ == "__main__":
    main()
