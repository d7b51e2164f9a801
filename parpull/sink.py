"""What a transfer asks of its destination.

check() comes before any request, open() once the first response has said how long the
target is, and then commit(), or else keep() or discard(). The kinds are in memory.py,
files.py and window.py; what only files know of has an answer here for the others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from ._landing import Landing
    from .errors import ParpullError

__all__ = ["Sink"]


class Sink(ABC):
    """A destination. Its bytes are the reactor's between open() and the end of the
    transfer; what is asked meanwhile is read()."""

    path: str | None = None
    gap: tuple[int, int] | None = None  # after check(): the first bytes that an earlier transfer has not left

    def check(self) -> None:
        """Whether it can be written, before any request."""

    @abstractmethod
    def open(
        self,
        size: int | None,
        *,
        followed: bool,
        validator: str | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> Landing:
        """Where `size` bytes land; None: nobody knows how many. `followed`: somebody reads
        along. `validator`: the version, of an object that can be resumed. It may take
        long, but not once it is not `wanted` any more."""

    @abstractmethod
    def overflow(self, landed: int) -> ParpullError:
        """The error when a target of unknown size is larger than what there is."""

    @abstractmethod
    def read(self, start: int, stop: int) -> memoryview:
        """Bytes in place, or the first of them; the view is good until the next call."""

    def tap(self) -> int | None:
        """A descriptor of the caller's own, to read what is in place; None: read() is for all."""
        return None

    @abstractmethod
    def commit(self, size: int, *, validator: str | None = None, digests: Mapping[str, str] | None = None) -> Any:
        """All is in place, `size` bytes, and proven: the path, or the memory."""

    @property
    def keeps(self) -> bool:
        """Whether another transfer could go on from what is here."""
        return False

    def keep(self) -> None:
        """Leave it for that one."""

    def doubt(self) -> None:
        """Not every byte is from where the validator is."""

    def discard(self) -> None:
        """Nothing of it is worth keeping. Nothing writes any more."""

    def abandon(self) -> None:
        """In a forked child: the transfer goes on in the parent."""
