"""Make docs/hostile-servers.md from the scenario files in tests/scenarios.

    python docs/make_hostile.py           writes it
    python docs/make_hostile.py -         prints it

Run it from the repository's root. What the scenarios cannot show, and where else it is
tested, is told here (ELSEWHERE); everything in the tables comes from the files.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.servers.scenarios import Scenario, load_all  # noqa: E402  (the path comes first)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["PAGE", "page", "section"]

PAGE = Path(__file__).with_name("hostile-servers.md")
TOP = """\
# Hostile servers

<!-- Made by docs/make_hostile.py from tests/scenarios: change those, not this page. -->

What a client of many ranges meets in the field, as {count} scripted servers. Each is a file of a few lines in
`tests/scenarios`, says what a correct client makes of it, and is run in a test against parpull (to memory, to a file
and to a reader; with 1 and with 8 connections; plain and over TLS) and against bare libcurl, which in {wrong} of them
says OK over wrong bytes.

## Your own client

The servers know nothing of parpull. `python -m tests.servers.origin --port 8080` serves until its input ends (Ctrl-D),
`--cert` and `--key` make it speak TLS, and the scenario is the first word of the path:
`curl -r 1000-1999 'http://127.0.0.1:8080/range-ignored/mine?size=1000000'`. In Python:

```python
import urllib.request

from tests.servers.content import first_difference
from tests.servers.origin import Origin

with Origin() as origin:
    url = origin.url("mine", size=1_000_000, scenario="range-ignored")
    request = urllib.request.Request(url, headers={{"Range": "bytes=1000-1999"}})
    with urllib.request.urlopen(request) as reply:
        body = reply.read()
    log = origin.log("mine")

print(reply.status, len(body), "first wrong byte:", first_difference(body, start=1000))
print(len(log), log.asked, log.sent)
```

```text
200 1000000 first wrong byte: 0
1 [(1000, 2000)] 1000000
```

Each name has counters of its own ("the third request gets…"), so take a new one for each run. All bytes follow from
their offset and the version: one that lands elsewhere cannot pass. `--list` names the scenarios, `--help` the
parameters:

```console
$ python -m tests.servers.origin --list | grep gzip-slice
gzip-slice                   BadResponse        Content-Encoding: gzip over the range, though not accepted
```

A scenario that is *behind a proxy* expects the origin as the client's proxy (`curl -x http://127.0.0.1:8080
http://origin.test/…`); one with *addresses* expects the name `many.test` to stand for them (`curl --resolve`).

## Where nothing can tell

In these the server contradicts itself nowhere, so no client can notice. Only a checksum that you bring yourself helps
(`checksum=`), and so they are tested. Wherever the server states a validator, a length or a digest that gives it away,
parpull notices; a digest (`Repr-Digest`, `Digest`, `x-goog-hash`, `x-amz-checksum-*`) is checked unasked unless
`verify="none"`.

| server | why |
|---|---|
{blind}

"""
BELOW = """\
In the tables, **wrong** marks wrong bytes that bare libcurl takes for right ones; its other errors are told by number.
For parpull, *brings it* means: all bytes, and the right ones. An error that comes after tries is the last one of
`RetriesExhausted`. [Errors](errors.md) tells what they mean.

"""
ELSEWHERE = (
    ("the disk is full, the quota, a folder that is read-only or missing, a target that is a folder or a pipe",
     "tests/test_files.py"),
    ("file systems without fallocate, O_DIRECT, hard links or attributes", "tests/test_files.py, tests/test_record.py"),
    ("journals of another object or version, torn, garbage or forged", "tests/test_journal.py, tests/test_resume.py"),
    ("a part file that was truncated, edited or copied between two runs", "tests/test_resume.py"),
    ("kill -9 at random moments; every write that a crash of the system may lose", "tests/test_crash.py"),
    ("fork during a transfer, exit of the interpreter", "tests/test_engine.py, tests/test_endings.py"),
    ("SIGINT once and twice, SIGTERM", "tests/test_cli.py, tests/test_verbs.py"),
    ("the network goes away and comes back; connections cut, frozen and slowed by a proxy", "tests/test_reactor.py"),
    ("credentials and redirects: no secret reaches a second origin; signed addresses that expire every 2 s",
     "tests/test_credentials.py, tests/test_request.py"),
    ("a crawling connection at the very end", "tests/test_endings.py, tests/test_planner.py"),
    ("real servers, HTTP/2", "tests/test_scenarios.py, tests/servers/test_servers.py"),
    ("any head of a response", "tests/test_response.py, tests/fuzz"),
    ("empty objects, in nginx's way and in S3's", "tests/test_client.py, tests/test_window.py"),
)  # fmt: skip
NOT_TESTED = """\
Not tested: DNS that fails and comes back, an address that swallows packets (here: one that refuses), HTTP/2's GOAWAY
and ENHANCE_YOUR_CALM, and servers that get slower with each connection.
"""
SECTIONS = (
    (
        "Ranges",
        "full shift whole-in-206 short long multipart old-protocol refuse-long refuse-open",
        "ranges accept_ranges",
    ),
    (
        "Heads and framing",
        "headers content-length big-headers endless inform garbage gzip no-last-chunk",
        "length range_length",
    ),
    ("Versions, validators and digests", "change edge-etag corrupt", "etag last_modified if_match if_range digest"),
    ("Statuses", "status page", "bearer auth cookie head"),
    ("Redirects and signed addresses", "redirect other-host downgrade", "redirect hops"),
    ("Connections", "truncate mute drip pace limit", "per_connection"),
)


def section(scenario: Scenario) -> str:
    """The title of the table that a scenario belongs to."""
    fault, manner = scenario.server.does, scenario.server.manner
    if scenario.proxied or scenario.addresses or isinstance(scenario.tls, str):
        return "Names, certificates and proxies"
    for title, faults, manners in SECTIONS:
        if fault in faults.split() if fault is not None else manner.keys() & set(manners.split()):
            return title
    raise LookupError(f"{scenario.name}: no section for it")


def page() -> str:
    """The page, as Markdown."""
    scenarios = list(load_all().values())
    blind = "\n".join(f"| `{s.name}` | {_cell(s.blind)} |" for s in scenarios if s.blind)
    wrong = sum(s.bare.bytes == "wrong" for s in scenarios)
    text = [TOP.format(count=len(scenarios), wrong=wrong, blind=blind), BELOW]
    for title in (*(title for title, _, _ in SECTIONS), "Names, certificates and proxies"):
        text += [f"## {title}\n\n", *_table(s for s in scenarios if section(s) == title), "\n"]
    text += ["## What no server shows\n\n", "| what | tested in |\n|---|---|\n"]
    text += [
        f"| {_cell(what)} | {', '.join(f'`{place}`' for place in where.split(', '))} |\n" for what, where in ELSEWHERE
    ]
    return "".join([*text, "\n", NOT_TESTED])


def _table(scenarios: Iterable[Scenario]) -> list[str]:
    lines = ["| scenario | the server | seen | bare libcurl | parpull |\n|---|---|---|---|---|\n"]
    for s in scenarios:
        about = _cell(s.title) + "".join(f" ({what})" for what in _conditions(s))
        lines.append(f"| `{s.name}` | {about} | {_cell(', '.join(s.seen))} | {_bare(s)} | {_ours(s)} |\n")
    return lines


def _conditions(scenario: Scenario) -> list[str]:
    said = ["TLS only"] if scenario.tls is True else []
    said += ["behind a proxy"] if scenario.proxied else []
    return said + ([f"addresses {', '.join(scenario.addresses)}"] if scenario.addresses else [])


def _bare(scenario: Scenario) -> str:
    codes = " or ".join(str(code) for code in scenario.bare.code)
    if scenario.bare.bytes == "wrong":
        return "**wrong**" if scenario.bare.code == (0,) else f"**wrong**, then {codes}"
    return "brings it" if scenario.bare.bytes == "right" else codes


def _ours(scenario: Scenario) -> str:
    def told(outcome: str) -> str:
        return "brings it" if outcome == "recovers" else f"`{outcome}`"

    text = told(scenario.outcome) + (f", or {told(scenario.or_else)}" if scenario.or_else else "")
    text += "".join(f"; {place}: {told(outcome)}" for place, outcome in scenario.at.items())
    if "checksum" in scenario.client:
        text += ", given the right one"
    return text + (f". {_cell(scenario.note)}" if scenario.note else "")


def _cell(text: str) -> str:
    """Text that stays in its cell, and is no markup."""
    for mark in "\\|*_<":
        text = text.replace(mark, "\\" + mark)
    return text


if __name__ == "__main__":
    if sys.argv[1:] == ["-"]:
        sys.stdout.write(page())
    else:
        PAGE.write_text(page(), encoding="utf-8")
