"""Checks: what an option's value may be, and how a text becomes one.

Each check takes (name, value) and returns the value to keep, or raises BadOption
with a hint and without the value where that may be a secret. Ground floor.
"""

from __future__ import annotations

import os
import re
from types import MappingProxyType

from .checksums import parse_checksum
from .errors import BadOption

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

__all__ = ["CHECKS", "FROM_TEXT", "MAX_CONNECTIONS", "checked", "parse_size"]

MAX_CONNECTIONS = 256
MAX_COUNT = 2**31 - 1
MAX_BYTES = 2**60
MAX_MIRRORS = 8
LEAST_RATE = 1024  # bytes per second; below, servers take a connection for dead
MAX_SECONDS = 10**6  # where libcurl counts milliseconds in a long
TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")  # RFC 9110
OURS = ("range", "if-range", "if-match", "accept-encoding")

PROXIES = ("http", "https", "socks5h", "socks5", "socks4a", "socks4")

UNITS = MappingProxyType({"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12})


def parse_size(text: str) -> int:
    """Bytes of "64M" (10^6), "64MiB" (2^20) or "512". ValueError for anything else."""
    number = text.strip().lower().removesuffix("b")
    binary = number.endswith("i")
    number = number.removesuffix("i")
    unit = number[-1:] if number[-1:].isalpha() else ""
    digits = number.removesuffix(unit)
    if unit not in UNITS or (binary and not unit) or not digits.replace(".", "", 1).isdecimal() or not digits.isascii():
        raise ValueError(f"not a size: {text!r}")
    whole, _, fraction = digits.partition(".")
    scale = 1 << 10 * ("kmgt".index(unit) + 1) if binary else UNITS[unit]
    return int(whole or 0) * scale + int(int(fraction or 0) * scale // 10 ** len(fraction))


def _bad(name: str, value: object, hint: str) -> BadOption:
    return BadOption(f"{name}={value!r} is not possible", name=name, value=value, hint=hint)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _connections(name: str, value: Any) -> Any:
    if value != "auto" and not (_is_int(value) and 1 <= value <= MAX_CONNECTIONS):
        raise _bad(name, value, f'give 1 to {MAX_CONNECTIONS}, or "auto"')
    return value


def _host_connections(name: str, value: Any) -> Any:
    if value is not None and not (_is_int(value) and 1 <= value <= MAX_CONNECTIONS):
        raise _bad(name, value, f"give 1 to {MAX_CONNECTIONS}")
    return value


def _count(name: str, value: Any) -> Any:
    if not _is_int(value) or not 0 <= value <= MAX_COUNT:
        raise _bad(name, value, f"give a whole number from 0 to {MAX_COUNT}")
    return value


def _bytes_or_none(name: str, value: Any) -> Any:
    if value is not None and not (_is_int(value) and 0 <= value <= MAX_BYTES):
        raise _bad(name, value, "give bytes, 0 or more")
    return value


def _part_size(name: str, value: Any) -> Any:
    if value is not None and not (_is_int(value) and 1 <= value <= MAX_BYTES):
        raise _bad(name, value, "give bytes, 1 or more")
    return value


def _flag(name: str, value: Any) -> Any:
    if not isinstance(value, bool):
        raise _bad(name, value, "give true or false")
    return value


def _seconds(name: str, value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
        raise _bad(name, value, "give seconds, more than 0")
    return float(value)


def _bounded_seconds(name: str, value: Any) -> float:
    seconds = _seconds(name, value)
    if seconds > MAX_SECONDS:
        raise _bad(name, value, f"give seconds, at most {MAX_SECONDS}")
    return seconds


def _checksum(name: str, value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, str):
        raise _bad(name, value, "write ALGORITHM=HEX")
    parse_checksum(value)
    return value


def _headers(name: str, value: Any) -> tuple[str, ...]:
    hint = "give 'Name: value', without line breaks"
    if hasattr(value, "items"):
        lines: list[Any] = [f"{key}: {text}" if isinstance(key, str) else None for key, text in value.items()]
    elif isinstance(value, (list, tuple)):
        lines = list(value)
    else:
        raise _bad(name, "…", 'give {"Name": "value"} or ["Name: value"]')
    for line in lines:
        if not isinstance(line, str):
            raise _bad(name, "…", hint)
        key, colon, text = line.partition(":")
        known = colon and key and TOKEN.issuperset(key)
        # Without a proper name the whole line may be a secret.
        if not known or not text.isprintable():
            raise _bad(name, f"{key}: …" if known else "…", hint)
        if key.lower() in OURS:
            raise _bad(name, key, "parpull sets this header itself")
    return tuple(lines)


def _plain_text(name: str, value: Any) -> Any:
    if value is not None and (not isinstance(value, str) or not value.isprintable()):
        raise _bad(name, "…", "give a text without line breaks")
    return value


def _cookies(name: str, value: Any) -> Any:
    return _path(name, value) and value if isinstance(value, os.PathLike) else _plain_text(name, value)


def _auth(name: str, value: Any) -> Any:
    if value is None:
        return None
    hint = "give (user, password) without line breaks; the user without a colon"
    if not isinstance(value, (list, tuple)) or len(value) != 2 or not all(isinstance(text, str) for text in value):
        raise _bad(name, "…", hint)
    user, password = value
    if not f"{user}{password}".isprintable() or ":" in user:
        raise _bad(name, "…", hint)
    return (user, password)


def _proxy(name: str, value: Any) -> Any:
    if not hasattr(value, "items"):
        return _proxy_url(name, value)
    for scheme, proxy in value.items():
        if scheme not in ("http", "https"):
            raise _bad(name, scheme, "the schemes are http and https")
        _proxy_url(name, proxy)
    return MappingProxyType(dict(value))


def _proxy_url(name: str, value: Any) -> Any:
    """libcurl tells of a bad one late, by the name of another failure, and with the password."""
    if not _plain_text(name, value):
        return value
    scheme, sep, rest = value.partition("://")
    if sep and scheme.lower() not in PROXIES:
        raise _bad(name, "…", f"write http://host:port; its scheme may be {', '.join(PROXIES)}")
    authority = re.split("[/?#]", rest if sep else value, maxsplit=1)[0]
    found = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]\s]*)(?::(\d*))?", authority.rpartition("@")[2])
    if found is None or (found[2] and not 0 < int(found[2]) < 1 << 16):
        hint = "write http://host:port, with a port from 1 to 65535; in a password @ : / ? # are written %40 %3A %2F"
        raise _bad(name, "…", f"{hint} %3F %23")
    if found[1] in ("", "[]"):
        raise _bad(name, "…", "it names no host: write http://host:port")
    return value


def _path(name: str, value: Any) -> Any:
    if value is None:
        return None
    try:
        path = os.fsdecode(value)
    except TypeError:
        raise _bad(name, value, "give the path of a file") from None
    if not os.path.isfile(path):
        raise _bad(name, path, "there is no such file")
    return path


def _netrc(name: str, value: Any) -> Any:
    return value if isinstance(value, bool) else _path(name, value) or False


def _http_version(name: str, value: Any) -> Any:
    if not isinstance(value, str) or value not in ("1.1", "2", "3"):
        raise _bad(name, value, 'give "1.1", "2" or "3"')
    return value


def _verify(name: str, value: Any) -> Any:
    if not isinstance(value, str) or value not in ("stated", "none"):
        raise _bad(name, value, 'give "stated" or "none"')
    return value


def _curl(name: str, value: Any) -> Any:
    if not hasattr(value, "items"):
        raise _bad(name, value, "give {option number: value}, as pycurl names the numbers")
    return MappingProxyType(dict(value))


def _limit_rate(name: str, value: Any) -> Any:
    if value is not None and not (_is_int(value) and LEAST_RATE <= value <= MAX_BYTES):
        raise _bad(name, value, f"give at least {LEAST_RATE} bytes per second, or None")
    return value


def _mirrors(name: str, value: Any) -> tuple[str, ...]:
    many = (value,) if isinstance(value, str) else value
    try:
        many = tuple(many)
    except TypeError:
        raise _bad(name, value, "give a list of URLs") from None
    if len(many) > MAX_MIRRORS or not all(isinstance(url, str) and url.strip() for url in many):
        raise BadOption(  # without the value: a URL may hold a password
            f"{name} are not possible", name=name, value=len(many), hint=f"give URLs, {MAX_MIRRORS} at most"
        )
    return many


def _callable(name: str, value: Any) -> Any:
    if value is not None and not callable(value):
        raise _bad(name, value, "give a function that takes an event")
    return value


CHECKS: Mapping[str, Callable[[str, Any], Any]] = MappingProxyType(
    {
        "connections": _connections,
        "host_connections": _host_connections,
        "part_size": _part_size,
        "checksum": _checksum,
        "overwrite": _flag,
        "retries": _count,
        "retry_for": _seconds,
        "connect_timeout": _bounded_seconds,
        "stall_timeout": _seconds,
        "headers": _headers,
        "auth": _auth,
        "netrc": _netrc,
        "cookies": _cookies,
        "proxy": _proxy,
        "noproxy": _plain_text,
        "ca_file": _path,
        "cert": _path,
        "key": _path,
        "http_version": _http_version,
        "max_memory": _bytes_or_none,
        "durable": _flag,
        "resume": _flag,
        "verify": _verify,
        "size": _bytes_or_none,
        "steal": _flag,
        "hedge": _flag,
        "limit_rate": _limit_rate,
        "mirrors": _mirrors,
        "trace": _flag,
        "curl": _curl,
        "on_event": _callable,
    }
)


def checked(name: str, value: Any, label: str) -> Any:
    """The value as the option keeps it. A BadOption names `label`: where it was given."""
    try:
        return CHECKS[name](name, value)
    except BadOption as error:
        raise BadOption(
            f"{label}={error.value!r} is not possible", name=label, value=error.value, hint=error.hint
        ) from None


# --- from the environment: (name, text) -> value ------------------------------------------

YES, NO = ("1", "yes", "true", "on"), ("0", "no", "false", "off")


def _from_size(name: str, text: str) -> int:
    try:
        return parse_size(text)
    except ValueError:
        raise _bad(name, text, "give a size such as 64M") from None


def _from_number(name: str, text: str) -> float:
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        raise _bad(name, text, "give a number") from None


def _from_connections(name: str, text: str) -> Any:
    return int(text) if text.isdecimal() else text


def _from_text(name: str, text: str) -> str:
    return text


def _from_flag(name: str, text: str) -> bool:
    if text.lower() not in YES + NO:
        raise _bad(name, text, "give yes or no")
    return text.lower() in YES


def _from_netrc(name: str, text: str) -> Any:
    return text.lower() in YES if text.lower() in YES + NO else text


# All that is plain data and no credential; headers are not, they may be one.
FROM_TEXT: Mapping[str, Callable[[str, str], Any]] = MappingProxyType(
    {
        "connections": _from_connections,
        "host_connections": _from_number,
        "part_size": _from_size,
        "overwrite": _from_flag,
        "retries": _from_number,
        "retry_for": _from_number,
        "connect_timeout": _from_number,
        "stall_timeout": _from_number,
        "netrc": _from_netrc,
        "proxy": _from_text,
        "noproxy": _from_text,
        "ca_file": _from_text,
        "cert": _from_text,
        "key": _from_text,
        "http_version": _from_text,
        "max_memory": _from_size,
        "durable": _from_flag,
        "resume": _from_flag,
        "verify": _from_text,
        "steal": _from_flag,
        "hedge": _from_flag,
        "limit_rate": _from_size,
    }
)
