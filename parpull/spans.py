"""Spans: which parts of an object a target consists of. First floor."""

from __future__ import annotations

from .errors import BadOption, RangeIgnored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .sources import Target

__all__ = ["size_of"]


def size_of(spans: Sequence[tuple[int, int | None]], target: Target, url: str) -> int | None:
    """Bytes of the spans (start, stop) together, clipped to the object; None while that is
    unknown. RangeIgnored, BadOption where the object can't give them."""
    total = target.size
    if len(spans) > 1:
        if not target.ranges:
            raise RangeIgnored("the server gives no ranges", url=url, hint="fetch the whole object and slice it")
        end = max(stop or 0 for _, stop in spans)
        if total is None or end > total:
            has = "an unknown size" if total is None else f"{total:,} bytes"
            raise BadOption(f"a range ends at {end:,}, the object has {has}", name="ranges", value=end)
        return sum(stop - start for start, stop in spans if stop is not None)
    start, stop = spans[0]
    if total is None:
        return None
    if start > total:
        raise BadOption(f"start={start:,} lies beyond the object's {total:,} bytes", name="start", value=start)
    return (total if stop is None else min(stop, total)) - start
