"""Scenario files: one fault each, read from tests/scenarios/*.toml and checked.

    title = "what happens"
    seen = ["project #issue", …]        where it was met
    [server]                            does = a key of faults.FAULTS, its arguments, and when:
      when = "every"|"first"|"later"|"nth"|"until"|"from"   (n = N for the last three)
      per = "request"|"connection"      what is counted, separately for each name under test
      asked = "any"|"range"|"plain"     which requests count at all; method = "GET"|"HEAD"
      [server.manner]                   parameters of manner.Manner
    [expect]                            what a correct downloader makes of it: recovers|ERROR
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
from tests.servers.faults import FAULTS
from tests.servers.manner import as_text, parse_manner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.servers.answers import Ask

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
        *("NotFound", "ObjectChanged", "RangeIgnored", "RedirectRefused", "RetriesExhausted"),
        *("SizeMismatch", "Stalled", "TLSFailed"),
    }
)
When = Literal["every", "first", "later", "nth", "until", "from"]
Per = Literal["request", "connection"]
Asked = Literal["any", "range", "plain"]
Method = Literal["GET", "HEAD"]
Bytes = Literal["right", "wrong", "missing"]
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
    tls: bool = False
    client: Mapping[str, object] = field(default_factory=dict)


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
    if expect["outcome"] not in OUTCOMES:
        raise ValueError(f"outcome {expect['outcome']} is no error of the project")
    code = bare["code"]
    codes = tuple(code) if isinstance(code, list) else (code,)
    return Scenario(
        name=name,
        server=server,
        bare=Bare(codes, _choice("bytes", bare["bytes"])),
        seen=tuple(file.pop("seen", ())),
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
