"""The kept corpus and some thousand mutants of it, the same each time."""

from __future__ import annotations

import pytest

from tests.fuzz.__main__ import run
from tests.fuzz.targets import TARGETS, content_range


@pytest.mark.parametrize("target", TARGETS)
def test_corpus_and_mutants(target):
    assert run(target, 1, runs=5000) == 5000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"bytes 0-99/1000", (0, 100, 1000)), (b"BYTES=5-5/*", (5, 6, -1)), (b"bytes */7", (-1, -1, 7)),
        (b"bytes 9-5/10", None), (b"bytes 0-9/5", None), (b"bytes 0-9/10x", None),
    ],
)  # fmt: skip
def test_the_second_reading(text, expected):
    assert content_range(text) == expected
