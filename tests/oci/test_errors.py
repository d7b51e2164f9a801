"""The image's branch of the tree: data, kinds, pickles."""

from __future__ import annotations

import pickle

import pytest

from parpull.errors import BadStatus, ParpullError
from parpull.oci import (
    BadLayer,
    BadManifest,
    BadReference,
    ImageError,
    RateLimited,
    UnknownPlatform,
    UnsafeLayer,
)
from parpull.oci.answers import Quota

CASES = [
    (BadReference, {"reference": "A"}, ValueError),
    (BadManifest, {"reason": "x", "digest": None}, ImageError),
    (UnknownPlatform, {"wanted": "linux/arm", "available": ("linux/amd64",)}, LookupError),
    (BadLayer, {"reason": "x", "digest": "sha256:0"}, ImageError),
    (UnsafeLayer, {"reason": "x", "digest": "sha256:0", "name": "../x"}, ImageError),
    (RateLimited, {"status": 429, "retry_after": 60.0, "quota": Quota(100, 0, 21600)}, BadStatus),
]


@pytest.mark.parametrize(("kind", "data", "base"), CASES)
def test_errors_carry_their_data_and_pickle(kind, data, base):
    error = kind("what is wrong", hint="what to do", **data)
    assert isinstance(error, (ImageError, ParpullError))
    assert isinstance(error, base)
    for again in (pickle.loads(pickle.dumps(error)), error.again()):
        assert type(again) is kind
        assert (str(again), again.hint) == ("what is wrong", "what to do")
        assert {key: getattr(again, key) for key in data} == data
