"""The verb `probe`: what a server offers, and what a fetch would make of it.

One request for the object's first byte, the same that a fetch begins with, so the
answer is the one that a fetch would get. The plan is the planner's own, with nothing
measured yet: parts may get longer on a line that turns out to be fast and far.
"""

from __future__ import annotations

import parpull

from .._planner import Planner
from ..download import FIRST_PART
from .outcome import say, write_out
from .parser import CODES, add_network, add_telling, options_of
from .stop import Signals, Stopped
from .text import clean, human_size, plural

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..events import Event
    from ..options import Options
    from ..sources import Target
    from .parser import Arguments, Parser

__all__ = ["EPILOG", "SUMMARY", "USAGE", "add", "plan_of", "run"]

SUMMARY = "tell what a server offers, and how parpull would fetch it"
USAGE = "parpull probe [options] URL"
EPILOG = f"""\
examples:
  parpull probe https://host/model.safetensors
  parpull probe --json https://host/data.tar | jq .size

{CODES}"""
DIGESTS = ("repr-digest", "content-digest", "digest", "x-goog-hash", "content-md5")
DIGEST_PREFIX = "x-amz-checksum-"


def add(parser: Parser) -> None:
    """The arguments of probe."""
    parser.add_argument_group("what").add_argument("url", metavar="URL", help="http:// or https:// address")
    add_network(parser)
    add_telling(parser, quiet=False, verbose=False, json="one JSON object on stdout")


def run(args: Arguments) -> int:
    """Ask, and tell on stdout; return the exit code."""
    options = options_of(args)
    with Signals() as signals:
        try:
            target, redirects = _ask(args.url, options, signals)
        except Stopped as stopped:
            return stopped.code
    if not target.ranges and not args.json and target.size:
        say("parpull: warning: without ranges a broken connection means to begin anew")
    facts = _facts(target, redirects) | {"plan": plan_of(target, options)}
    if args.json:
        import json

        write_out((json.dumps(facts) + "\n").encode())
    else:
        write_out("".join(f"{name:15}{clean(value)}\n" for name, value in _lines(facts)).encode())
    return 0


def _ask(url: str, options: Options, signals: Signals) -> tuple[Target, list[dict[str, Any]]]:
    redirects: list[dict[str, Any]] = []

    def tell(event: Event) -> None:
        data: Any = event
        if event.kind == "redirected":
            redirects.append({"status": data.status, "location": data.location})
        elif event.kind == "refreshed":
            redirects.clear()

    with parpull.Client(options) as client, signals.armed():
        return client.probe(url, on_event=tell), redirects


def _facts(target: Target, redirects: list[dict[str, Any]]) -> dict[str, Any]:
    etag = target.etag
    return {
        "url": target.url,
        "redirects": redirects,
        "address": target.address,
        "size": target.size,
        "ranges": target.ranges,
        "etag": etag,
        "etag_kind": None if etag is None else "weak" if etag.startswith("W/") else "strong",
        "last_modified": target.last_modified,
        "digests": {
            name: value
            for name, value in target.headers.items()
            if name in DIGESTS or name.startswith(DIGEST_PREFIX)
        },
    }  # fmt: skip


def plan_of(target: Target, options: Options) -> dict[str, Any]:
    """The plan that would run: connections, bytes of the first part and of the next
    ones, how many requests about, and why."""
    first = options.part_size or FIRST_PART
    size = target.size
    alone: dict[str, Any] = {"connections": 1, "first_part": size, "part_size": None, "requests": 1}
    if size is None:
        return alone | {"why": "the server does not say how long the object is: one connection reads to its end"}
    if size == 0:
        return alone | {"why": "the object is empty: one request"}
    if not target.ranges:
        return alone | {"why": "the server gives no ranges: one connection streams the whole object"}
    if size <= first:
        return alone | {"why": f"the object is no longer than the first part ({human_size(first)}): one request"}
    limit = min(options.limit, options.host_connections or options.limit)
    if limit == 1:
        why = "one connection was asked for: parts one after another"
    else:
        why = f"the server gives ranges: up to {limit} connections, each a part at a time, until all finish together"
    plan = Planner(size, lanes=limit, part_size=options.part_size or 0)
    plan.adopt(0, 0, first)
    plan.release(0, first)
    part_size = min(plan.part_size(limit), size - first)
    parts = 0
    while (part := plan.take(parts % limit, limit)) is not None:
        plan.release(parts % limit, part[1])
        parts += 1
    return {
        "connections": min(limit, parts + 1),
        "first_part": first,
        "part_size": part_size,
        "requests": parts + 1,
        "why": why,
    }


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The same for human eyes: (name, value)."""
    size, etag, plan = facts["size"], facts["etag"], facts["plan"]
    lines = [("address", facts["url"])]
    lines += [("redirect", f"{hop['status']} to {hop['location']}") for hop in facts["redirects"]]
    lines += [
        ("server", facts["address"] or "unknown"),
        ("size", "unknown" if size is None else f"{human_size(size)} ({size:,} bytes)"),
        ("ranges", "yes" if facts["ranges"] else "no"),
        ("etag", "none" if etag is None else f"{etag} ({facts['etag_kind']})"),
        ("last-modified", facts["last_modified"] or "none"),
    ]
    lines += [("digest", f"{name}: {value}") for name, value in facts["digests"].items()]
    lines += [("digest", "none stated")] if not facts["digests"] else []
    lines.append(("connections", str(plan["connections"])))
    if plan["part_size"] is not None:
        parts = f"{human_size(plan['first_part'])} first, then {human_size(plan['part_size'])} or less"
        lines.append(("parts", parts))
    requests = plan["requests"]
    lines.append(("requests", ("about " if requests > 1 else "") + plural(requests, "request").split()[0]))
    lines.append(("why", plan["why"]))
    return lines
