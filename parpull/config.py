"""Configuration: options that a user keeps in a file, config.toml.

Its keys are the names of Options; sizes may be texts such as "64MiB", paths begin
at the file's own folder. Whatever is wrong with it is a BadOption that names file
and key: a setting that is quietly not obeyed is worse than none. Credentials are
not kept here, since they belong to one host: that is what ~/.netrc is for.
Ground floor.
"""

from __future__ import annotations

import os
import sys
from types import MappingProxyType

from .checks import CHECKS, FROM_TEXT, checked, parse_size
from .errors import BadOption

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["KEYS", "default_path", "read"]

KEYS = (*FROM_TEXT, "headers")
SIZES = ("limit_rate", "max_memory", "part_size")
PATHS = ("ca_file", "cert", "key", "netrc")
# Options that are not for here, and why.
ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        "auth": "credentials belong to one host: netrc = true takes them from ~/.netrc",
        "cookies": "credentials belong to one host: --cookie FILE for those of a run",
        "checksum": "a checksum is of one object: --checksum",
        "size": "a size is of one object",
        "mirrors": "mirrors are of one object: --mirror",
        "trace": "a trace is of one run: --trace FILE",
        "curl": "libcurl's options are for programs: Options(curl=…)",
        "on_event": "functions are for programs: Options(on_event=…)",
    }
)


def default_path() -> str:
    """Where a user keeps it: in $XDG_CONFIG_HOME if that is absolute, else in ~/.config,
    on macOS in ~/Library/Application Support. "" for a user without a home."""
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(folder):
        folder = os.path.expanduser("~/Library/Application Support" if sys.platform == "darwin" else "~/.config")
    # Never a file of the folder here: others may have put it there.
    return os.path.join(folder, "parpull", "config.toml") if os.path.isabs(folder) else ""


def read(path: str, *, named: bool) -> dict[str, Any]:
    """The options that the file holds, checked. None where there is no file, unless
    somebody `named` it."""
    if not named and not os.path.exists(path):  # also where another user's home hides it
        return {}
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise _broken(path, "there is no such file", "PARPULL_CONFIG names it; empty, it names none") from None
    except OSError as error:
        raise _broken(path, f"it can't be read: {error.strerror}", None) from None
    import tomllib

    try:
        table = tomllib.loads(data.decode())
    except UnicodeDecodeError:
        raise _broken(path, "it is not UTF-8", None) from None
    except (ValueError, RecursionError) as error:  # also numbers too long, arrays too deep
        # The end of the message is the place; the rest may quote a secret.
        _, found, place = str(error).rpartition(" (at ")
        what = "it is no proper TOML" + (f", at {place.removesuffix(')')}" if found else "")
        raise _broken(path, what, 'a line is name = value; texts stand in "quotes"') from None
    folder = os.path.dirname(os.path.abspath(path))
    return {key: _value(path, folder, key, value) for key, value in table.items()}


def _broken(path: str, what: str, hint: str | None) -> BadOption:
    return BadOption(f"configuration {path}: {what}", name="config", value=path, hint=hint)


def _value(path: str, folder: str, key: str, value: Any) -> Any:
    label = f"{path}: {key}"
    if key not in KEYS:
        hint = ELSEWHERE.get(key) or _near(key)
        what = "is not set in a file" if key in CHECKS else "is no option"
        raise BadOption(f"{label} {what}", name=label, value=None, hint=hint)
    if key in SIZES and isinstance(value, str):
        try:
            value = parse_size(value)
        except ValueError:
            raise BadOption(
                f"{label}={value!r} is not possible", name=label, value=value, hint='give a size such as "64MiB"'
            ) from None
    if key in PATHS and isinstance(value, str):
        value = os.path.join(folder, os.path.expanduser(value))
    if key == "headers" and isinstance(value, (str, bytes)):
        raise BadOption(f"{label} is no table and no list", name=label, value="…", hint='write ["Name: value"]')
    return checked(key, value, label)


def _near(key: str) -> str:
    import difflib

    near = difflib.get_close_matches(key, KEYS, n=1)
    return f"did you mean {near[0]} ?" if near else f"there are: {', '.join(sorted(KEYS))}"
