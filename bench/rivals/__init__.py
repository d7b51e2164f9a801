"""Who is measured. Memory and a file do not cost the same: compare rows of one destination only."""

from bench.rivals import clouds, gos, ours, pythons, tools
from bench.rivals.base import DISK, FILES, MEMORY, NULL, TMPFS, Job, Rival
from bench.rivals.checking import check, digest
from bench.rivals.ours import FLOOR, PARPULL

RIVALS: list[Rival] = [*ours.RIVALS, *tools.RIVALS, *pythons.RIVALS, *gos.RIVALS, *clouds.RIVALS]

__all__ = [
    "DISK",
    "FILES",
    "FLOOR",
    "MEMORY",
    "NULL",
    "PARPULL",
    "RIVALS",
    "TMPFS",
    "Job",
    "Rival",
    "check",
    "digest",
]
