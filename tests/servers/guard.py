"""Runs a command that must not outlive the tests: `python -m tests.servers.guard COMMAND…`.

Ends it when standard input closes, which the kernel does even for a parent killed with -9, and
passes inherited descriptors on. Exits with the command's status. Knows nothing else.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

_GRACE = 3.0


def main() -> None:
    """Run the command in sys.argv."""
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, close_fds=False, process_group=0)
    # A signal to the whole group (Ctrl-C, timeout) must not end us before it: the input closes soon.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    threading.Thread(target=_end_with_input, args=(child,), daemon=True).start()
    sys.exit(child.wait())


def _end_with_input(child: subprocess.Popen[bytes]) -> None:
    while os.read(0, 4096):
        pass
    child.terminate()
    try:
        child.wait(_GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)  # its workers too


if __name__ == "__main__":
    main()
