"""A disk that writes so many bytes a second: a loop device under a throttle of the kernel.

The file behind it lies on the disk of the benchmark, so nothing faster than that can be had. With
control groups of version 1 the root group is throttled, for this device alone: writeback belongs
to it, and so do we. With version 2 the command would have to be moved into a group of its own:
not done, and said so.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.measure import Failed

if TYPE_CHECKING:
    from collections.abc import Iterator

_V1 = Path("/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device")


@contextlib.contextmanager
def slow_disk(behind: Path, size: int, rate: int) -> Iterator[Path]:
    """A folder on an ext4 of its own; gone afterwards, with the device and the file behind it."""
    if os.geteuid() != 0:
        raise Failed("only root may make a loop device")
    if not os.access(_V1, os.W_OK):
        raise Failed("no blkio control group of version 1 that we may write to")
    with contextlib.ExitStack() as exits:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="parpull-device-", dir=behind)))
        image, mounted = folder / "image", folder / "mounted"
        with image.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size + size // 4 + (64 << 20))
        _call("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", str(image))
        device = _call("losetup", "--find", "--show", "--direct-io=on", str(image)).strip()
        exits.callback(_call, "losetup", "--detach", device)
        mounted.mkdir()
        _call("mount", device, str(mounted))
        exits.callback(_call, "umount", str(mounted))
        number = os.stat(device).st_rdev
        name = f"{os.major(number)}:{os.minor(number)}"
        exits.callback(_V1.write_text, f"{name} 0\n")  # a rate of 0 is none
        _V1.write_text(f"{name} {rate}\n")
        yield mounted


def _call(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()
        raise Failed(f"{command[0]}: {said[-1] if said else error}") from error
