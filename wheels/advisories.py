"""Asks OSV whether anything is known against the pinned versions: `python -m wheels.advisories`.

Exit 0: nothing. 1: something, told a line each. 2: it could not be asked. `--answer FILE` judges an
answer that was fetched before.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .sources import WheelError, pins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .sources import Pin

__all__ = ["ask", "main", "told"]

OSV = "https://api.osv.dev/v1/querybatch"
# OSV knows both by the tags of their repositories.
TAGS = {
    "curl": ("https://github.com/curl/curl.git", "curl-", "_"),
    "openssl": ("https://github.com/openssl/openssl.git", "openssl-", "."),
}


def ask(bundled: Sequence[Pin]) -> dict[str, Any]:
    """OSV's answer: {"results": [{"vulns": [{"id": …}]}, …]}, one result a pin."""
    queries = []
    for pin in bundled:
        repository, prefix, dot = TAGS[pin.name]
        tag = prefix + pin.version.replace(".", dot)
        queries.append({"version": tag, "package": {"name": repository, "ecosystem": "GIT"}})
    body = json.dumps({"queries": queries}).encode()
    request = urllib.request.Request(OSV, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return dict(json.load(answer))


def told(bundled: Sequence[Pin], answer: dict[str, Any]) -> list[str]:
    """A line for each advisory. ValueError for an answer that is none, so that silence is never taken for safety."""
    results = answer.get("results")
    if not isinstance(results, list) or len(results) != len(bundled):
        raise ValueError("the answer is not one result for each pin")
    return [
        f"{pin.name} {pin.version}: {found['id']} https://osv.dev/{found['id']}"
        for pin, result in zip(bundled, results, strict=True)
        for found in result.get("vulns", [])
    ]


def main(arguments: list[str] | None = None) -> int:
    """Ask and tell."""
    parser = argparse.ArgumentParser(prog="python -m wheels.advisories", description=__doc__.splitlines()[0])
    parser.add_argument("--answer", type=Path, metavar="FILE", help="OSV's answer, fetched before")
    args = parser.parse_args(arguments)
    try:
        bundled = list(pins().values())
        answer = json.loads(args.answer.read_text()) if args.answer else ask(bundled)
        lines = told(bundled, answer)
    except (WheelError, OSError, ValueError) as error:
        print(f"wheels: the advisories could not be asked for: {error}", file=sys.stderr)
        return 2
    for line in lines:
        print(line)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
