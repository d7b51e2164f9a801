from typing import Literal, TypedDict

class _Told(TypedDict):
    entries: int
    files: int
    bytes: int
    read: int
    implied: list[str]
    skipped: int
    warnings: list[list[str]]

MARK: bytes
OPAQUE: bytes

class Unsafe(Exception): ...

class Untar:
    def __init__(
        self,
        source: int,
        root: int,
        *,
        overlay: bool,
        private: bool,
        owners: Literal["keep", "ignore", "record"],
        devices: Literal["make", "skip", "refuse"],
        entries: int,
        size: int,
    ) -> None: ...
    def run(self) -> None: ...
    def told(self) -> _Told: ...

def confine(root: int, keep: int) -> list[str]: ...
