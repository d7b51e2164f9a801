from collections.abc import Iterable, Sequence

from ._landing import Landing

SETTING_LONG: int
SETTING_OFF_T: int
SETTING_STRING: int
SETTING_SLIST: int
SETTING_PRIVATE: int
SETTING_HTTP: int
SETTING_HTTPS: int
EVENT_KINDS: tuple[str, ...]
CAUSE_KINDS: tuple[str, ...]
STEPS: tuple[str, ...]

def live_jobs() -> int: ...

class JobHandle:
    landing: Landing | None
    submitted: bool
    def __init__(
        self,
        id: int,
        *,
        settings: Sequence[tuple[int, int, int | str | None]] = (),
        spans: Sequence[tuple[int, int | None]] = ...,
        limit: int = 8,
        retries: int = 10,
        retry_for: float = 600.0,
        stall_timeout: float = 30.0,
        part_size: int = 0,
        first_part: int = ...,
        first_start: int = 0,
        steal: bool = True,
        hedge: bool = True,
        renews: bool = False,
        direct: bool = True,
        start: int = 0,
        limit_rate: float = 0.0,
        trace: bool = False,
    ) -> None: ...
    def request(self, url: str | bytes, headers: Iterable[str], *, private: bool, generation: int) -> None: ...
    def begin(
        self,
        landing: Landing,
        *,
        total: int,
        etag: str | None = None,
        last_modified: str | None = None,
        stream: bool = False,
        followed: bool = False,
    ) -> None: ...
    def follow(self) -> None: ...
    def add_source(
        self,
        url: str | None = None,
        headers: Iterable[str] = (),
        *,
        private: bool = False,
        connect_to: str | None = None,
        etag: str | None = None,
        last_modified: str | None = None,
    ) -> bool: ...
    def allow(self, connections: int, *, parting: bool = True) -> None: ...
    @property
    def id(self) -> int: ...
    def finished(self) -> None: ...
    def counters(self) -> dict[str, int]: ...
