from typing import TypedDict

class _Verdict(TypedDict):
    kind: str
    flaw: str
    start: int
    stop: int
    total: int
    measured: bool
    retry_after: float | None
    retry_at: int | None

KINDS: tuple[str, ...]
FLAWS: tuple[str, ...]

def verdict_of(
    status: int,
    headers: dict[str, bytes],
    *,
    start: int = -1,
    stop: int = -1,
    total: int = -1,
    first: bool = True,
    etag: bytes | None = None,
    last_modified: bytes | None = None,
) -> _Verdict: ...
