"""The Python targets under mutation: `python -m tests.fuzz [--seconds N] [--seed S] [TARGET…]`.

No coverage guides it: inputs are those of the corpus, spliced and mutated by chance, which
for parsers of a page is enough to try some ten thousand a second. What breaks a promise is
written to build/fuzz/TARGET-crash and printed. The judge in C has libFuzzer (judge.c).
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from pathlib import Path

from tests.fuzz.targets import TARGETS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["corpus", "main", "mutant", "run"]

CORPUS = Path(__file__).with_name("corpus")
MOST = 8192
WORDS = (
    b"bytes ", b"*/", b"-", b"/", b"*", b"0", b"00", b"1152921504606846976", b"1152921504606846977", b"9" * 20, b"\n",
    b"\r\n", b"\t", b" ", b"=", b":", b",", b";", b"\\", b"..", b"../", b"://", b"#", b"\0", b"\xff", b"\xef\xbb\xbf",
    b"W/", b'"', b"gzip", b"identity", b"{", b"}", b"[", b"null", b"true", b"-1", b"1e9", b"NaN", b"GMT", b"sha256=",
    b".wh.", b".wh..wh..opq", b"door/", b"a/", b"ustar\x0000", b"27 path=../../../out/kept/x\n", b"15 linkpath=..\n",
)  # fmt: skip


def corpus(target: str) -> list[bytes]:
    """The kept inputs of a target."""
    return [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]


def mutant(dice: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Another input, from one or two that there are."""
    data = bytearray(dice.choice(seeds))
    for _ in range(dice.choice((1, 1, 2, 3, 5, 9))):
        at = dice.randrange(len(data) + 1)
        upto = min(len(data), at + dice.choice((1, 1, 2, 4, 16)))
        match dice.randrange(8):
            case 0 if data:
                data[at % len(data)] ^= 1 << dice.randrange(8)
            case 1:
                data[at:upto] = b""
            case 2:
                data[at:at] = dice.choice(WORDS)
            case 3:
                data[at:upto] = dice.choice(WORDS)
            case 4:
                data[at:at] = data[at:upto] * dice.randrange(1, 5)
            case 5:
                other = dice.choice(seeds)
                cut = dice.randrange(len(other) + 1)
                data[at:] = other[cut:]
            case 6:
                data[at:upto] = str(dice.choice((0, 1, 99, 100, 199, 200, 1000, dice.getrandbits(64)))).encode()
            case _:
                data[at:upto] = dice.randbytes(upto - at)
    return bytes(data[:MOST])


def run(target: str, seed: int, *, seconds: float = float("inf"), runs: int | None = None) -> int:
    """How many inputs were tried; AssertionError, or whatever else one of them raised."""
    check, seeds = TARGETS[target], corpus(target)
    dice = random.Random(f"{target} {seed}")
    until, count, data = time.monotonic() + seconds, 0, b""
    try:
        for data in seeds:
            check(data)
        while (runs is None or count < runs) and (count % 256 or time.monotonic() < until):
            data = mutant(dice, seeds)
            check(data)
            count += 1
    except BaseException as error:
        error.add_note(f"target {target}, input {data!r}")
        raise
    return count


def main() -> int:
    """Each target for so long; 1 when something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", default=list(TARGETS), metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--seed", type=int, default=time.time_ns())
    args = parser.parse_args()
    found = 0
    for target in args.targets:
        try:
            print(f"{target}: {run(target, args.seed, seconds=args.seconds):,} inputs, seed {args.seed}", flush=True)
        except Exception:
            traceback.print_exc()
            found = 1
    return found


if __name__ == "__main__":
    sys.exit(main())
