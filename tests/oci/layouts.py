"""The images that several processes write into one layout at once: the same ones in each."""

from __future__ import annotations

import random

from tests.oci.small import small


def images():
    """Three of them that share their lowest layer."""
    base = {"base": random.Random(0).randbytes(300_000)}
    own = [{f"own-{number}": random.Random(number).randbytes(200_000)} for number in range(1, 4)]
    return [small(f"a.example/x:{number}", [base, files]) for number, files in enumerate(own)]
