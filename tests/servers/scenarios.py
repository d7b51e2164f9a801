"""Scenario files: one fault each, read from tests/scenarios/*.toml and checked.

    title = "what happens"
    seen = ["project #issue", …]        where it was met
    tls = true|false|CONDITION          with TLS only, never, or with such a certificate (ca.py); without: either
    proxied = true                      the origin is the client's proxy, and the URL names another host
    addresses = ["127.0.0.1", …]        what the name in the URL stands for
    [server]                            does = a key of faults.FAULTS, its arguments, and when:
      when = "every"|"first"|"later"|"nth"|"until"|"from"   (n = N for the last three)
      per = "request"|"connection"      what is counted, separately for each name under test
      asked = "any"|"range"|"plain"     which requests count at all; method = "GET"|"HEAD"
      [server.manner]                   parameters of manner.Manner
    [expect]                            what a correct downloader makes of it:
      outcome = "recovers"|ERROR        the error's name, or that of the last one of RetriesExhausted
      or_else = …                       what it may come to as well; the note says when
      at = { memory|file|reader = … }   where it differs
      blind = "why"                     nothing but the client's own checksum could tell
      requests = N, connections = N     at most, for 16 MiB in parts of 1 MiB; without: a rule of the tests
      note = "…"
    [client]                            options that a test should give it
    [bare]                              what bare libcurl makes of it (bare.py)

Knows the form only; a wrong file is a ValueError that names it.
"""

from __future__ import annotations

import inspect
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

from tests.servers.answers import Answer, right_answer
from tests.servers.ca import CONDITIONS, Condition
from tests.servers.faults import FAULTS
from tests.servers.manner import as_text, parse_manner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.servers.answers import Ask
    from tests.servers.origin import Origin

FOLDER = Path(__file__).resolve().parents[1] / "scenarios"
OUTCOMES = frozenset(
    {
        *(
            "recovers",
            "AccessDenied",
            "BadResponse",
            "BadStatus",
            "ChecksumMismatch",
            "ConnectFailed",
        ),
        *("MemoryBudget", "NoSpace", "NotFound", "ObjectChanged", "RangeIgnored"),
        *("RedirectRefused", "RetriesExhausted", "SizeMismatch", "Stalled", "TLSFailed"),
    }
)
When = Literal["every", "first", "later", "nth", "until", "from"]
Per = Literal["request", "connection"]
Asked = Literal["any", "range", "plain"]
Method = Literal["GET", "HEAD"]
Bytes = Literal["right", "wrong", "missing"]
PLACES = ("memory", "file", "reader")
_CHOICES = MappingProxyType({"when": When, "per": Per, "asked": Asked, "method": Method, "bytes": Bytes})


@dataclass(frozen=True)
class Fault:
    """What the server does, and to which requests."""

    does: str | None = None
    when: When = "every"
    n: int = 0
    per: Per = "request"
    asked: Asked = "any"
    method: Method = "GET"
    manner: Mapping[str, str] = field(default_factory=dict)
    args: Mapping[str, Any] = field(default_factory=dict)

    def answer(self, ask: Ask) -> Answer:
        """The answer to one request: the fault's when it strikes, else the right one."""
        if self.does is None or not self._strikes(ask):
            return right_answer(ask)
        ask.record.fault = True
        answer: Answer = FAULTS[self.does](ask, **self.args)
        return answer

    def _strikes(self, ask: Ask) -> bool:
        kind = "plain" if ask.record.asked is None else "range"
        if ask.request.method != self.method or self.asked not in {"any", kind}:
            return False
        count = ask.state.count("request")
        if self.per == "connection":
            count = ask.state.ordinal(ask.record.connection)
        match self.when:
            case "every":
                return True
            case "first":
                return count == 1
            case "later":
                return count > 1
            case "nth":
                return count == self.n
            case "until":
                return count <= self.n
            case "from":
                return count >= self.n


@dataclass(frozen=True)
class Bare:
    """What bare libcurl does (see bare.py): the result code, and what became of the bytes."""

    code: tuple[int, ...]
    """Several where it depends on the version or on which of the parallel requests is struck."""
    bytes: Bytes


@dataclass(frozen=True)
class Scenario:
    """One file."""

    name: str
    title: str
    outcome: str
    bare: Bare
    server: Fault
    seen: tuple[str, ...] = ()
    note: str = ""
    at: Mapping[str, str] = field(default_factory=dict)
    or_else: str = ""
    blind: str = ""
    requests: int | None = None
    connections: int | None = None
    tls: bool | Condition | None = None
    proxied: bool = False
    addresses: tuple[str, ...] = ()
    client: Mapping[str, object] = field(default_factory=dict)

    def outcomes(self, place: str) -> set[str]:
        """What a correct downloader may make of it at this destination, one of PLACES."""
        return {self.at.get(place, self.outcome), self.or_else or self.at.get(place, self.outcome)}

    @property
    def alone(self) -> bool:
        """Whether it needs an origin of its own: it closes the listening socket, or has a bad certificate."""
        return self.server.args.get("answer") == "refuse" or isinstance(self.tls, str)

    def url(self, origin: Origin, name: str, *, size: int) -> str:
        """The URL of an object under it."""
        host = "many.test" if self.addresses else "origin.test" if self.proxied else None
        return origin.url(name, size=size, scenario=self.name, host=host)

    def resolve(self, origin: Origin) -> list[str]:
        """The value of CURLOPT_RESOLVE that a client needs."""
        return [f"many.test:{origin.port}:{','.join(self.addresses)}"] if self.addresses else []

    def proxy(self, origin: Origin) -> str:
        """The proxy that a client needs, or ""."""
        return f"http://{origin.host}:{origin.port}" if self.proxied else ""


def load_all(folder: Path = FOLDER) -> dict[str, Scenario]:
    """Every scenario by its name."""
    return {path.stem: load(path) for path in sorted(folder.glob("*.toml"))}


def load(path: Path) -> Scenario:
    """Read and check one file."""
    try:
        return _scenario(path.stem, tomllib.loads(path.read_text()))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path.name}: {error}") from error


def _scenario(name: str, file: dict[str, Any]) -> Scenario:
    expect, bare = file.pop("expect"), file.pop("bare")
    server = _fault(file.pop("server"))
    for outcome in (expect["outcome"], expect.get("or_else", "recovers"), *expect.get("at", {}).values()):
        if outcome not in OUTCOMES:
            raise ValueError(f"outcome {outcome} is no error of the project")
    if not expect.get("at", {}).keys() <= set(PLACES):
        raise ValueError(f"at: choose from {', '.join(PLACES)}")
    tls = file.get("tls")
    if isinstance(tls, str) and tls not in CONDITIONS:
        raise ValueError(f"tls = {tls}: choose from {', '.join(CONDITIONS)}")
    code = bare["code"]
    codes = tuple(code) if isinstance(code, list) else (code,)
    return Scenario(
        name=name,
        server=server,
        bare=Bare(codes, _choice("bytes", bare["bytes"])),
        seen=tuple(file.pop("seen", ())),
        addresses=tuple(file.pop("addresses", ())),
        **expect,
        **file,
    )


def _fault(table: dict[str, Any]) -> Fault:
    manner = {key: as_text(value) for key, value in table.pop("manner", {}).items()}
    parse_manner(manner)
    known = {f.name for f in fields(Fault)} - {"args", "manner"}
    about = {key: table.pop(key) for key in tuple(table) if key in known}
    for key in about.keys() - {"does", "n"}:
        _choice(key, about[key])
    if about.get("when") in {"nth", "until", "from"} and about.get("n", 0) < 1:
        raise ValueError(f"when = {about['when']} needs n")
    if "does" in about:
        inspect.signature(FAULTS[about["does"]]).bind(None, **table)
    elif table:
        raise ValueError(f"without `does`: {', '.join(table)}")
    return Fault(**about, manner=manner, args=table)


def _choice(name: str, value: Any) -> Any:  # a Literal's value
    choices = get_args(_CHOICES[name])
    if value not in choices:
        raise ValueError(f"{name} = {value}: choose from {', '.join(choices)}")
    return value
