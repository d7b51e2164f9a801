"""From a URL to a request, from a response to a target.

A source answers `resolve(url, options) -> Request`, without network unless its
scheme needs it. The engine knows only requests; credentials and redirects are
decided here. First floor: imports errors and options.
"""

from .request import Request, Source, absolute, follow, origin_of, resolve
from .target import Target, target_of

__all__ = ["Request", "Source", "Target", "absolute", "follow", "origin_of", "resolve", "target_of"]
