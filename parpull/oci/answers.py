"""What a registry's answers say beside their bodies: limits, and why it refuses. Pure."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from ..errors import AccessDenied, BadStatus, NotFound, ParpullError, redact
from .errors import RateLimited

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .wire import Answer

__all__ = ["Quota", "next_page", "quota_of", "refused", "wait_of"]

CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
QUOTA = re.compile(r"\s*([0-9]{1,12})\s*(?:;\s*w=([0-9]{1,9}))?")
NEXT = re.compile(r'<([^<>]{1,4096})>\s*;[^,]*\brel="?next"?')
DISTANT = 1_000_000_000  # beyond, a number of seconds is a date


@dataclass(frozen=True, slots=True)
class Quota:
    """How many manifests the registry still gives: `limit` in `window` seconds, of which
    `remaining` are left. None: it does not say."""

    limit: int | None
    remaining: int | None
    window: int | None


def quota_of(headers: Mapping[str, str]) -> Quota | None:
    """What `ratelimit-limit` and `ratelimit-remaining` say, or None."""
    limit = QUOTA.match(headers.get("ratelimit-limit", ""))
    remaining = QUOTA.match(headers.get("ratelimit-remaining", ""))
    if limit is None and remaining is None:
        return None
    window = next((int(each[2]) for each in (limit, remaining) if each and each[2]), None)
    return Quota(int(limit[1]) if limit else None, int(remaining[1]) if remaining else None, window)


def wait_of(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds until one may ask again, None if nobody says."""
    now = time.time() if now is None else now
    for name in ("retry-after", "x-retry-after", "ratelimit-reset"):
        text = headers.get(name, "").strip()
        if text.isdecimal() and len(text) < 13:
            return max(0.0, float(text) - now) if int(text) > DISTANT else float(text)
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - now)
        except ValueError:
            continue
    return None


def next_page(headers: Mapping[str, str]) -> str | None:
    """Where a list goes on, as its Link says."""
    found = NEXT.search(headers.get("link", ""))
    return found[1] if found else None


def refused(answer: Answer, what: str, *, hint: str | None = None) -> ParpullError:
    """The error for a status that is no success; `what` was asked for."""
    url, status = redact(answer.url), answer.status
    codes = _codes(answer.body)
    said = f"{status} {', '.join(codes)}" if codes else str(status)
    if status in (404, 410):
        return NotFound(f"there is no {what} ({said})", url=url, status=status, hint=hint)
    if status in (401, 403):
        return AccessDenied(f"access to {what} is denied ({said})", url=url, status=status, hint=hint)
    if status == 429:
        wait = wait_of(answer.headers)
        when = "later" if wait is None else f"in {_span(wait)}"
        return RateLimited(
            f"the registry wants fewer requests ({said}): {what}",
            url=url, status=status, retry_after=wait, quota=quota_of(answer.headers),
            hint=f"try again {when}; who is logged in may often ask more",
        )  # fmt: skip
    advice = "the registry is in trouble: try again later" if status >= 500 else None
    return BadStatus(f"the registry answered {said}: {what}", url=url, status=status, hint=advice)


def _codes(body: bytes) -> list[str]:
    """The registry's own names of what is wrong. What else it says may be anything."""
    try:
        errors = json.loads(body)["errors"]
        return [str(each["code"]) for each in errors if CODE.fullmatch(str(each["code"]))][:3]
    except (ValueError, LookupError, TypeError, RecursionError):
        return []


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
