"""Credentials for registries: what `docker login` and `podman login` have left.

Files are read when a registry asks, not before, and helpers are run then: a token from one
may be good for minutes. Docker's own formats and helpers are the docker library's; podman
adds keys for a part of a registry, of which the longest that fits is taken.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from dataclasses import dataclass, field

from ..errors import BadOption

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from .reference import Reference

__all__ = ["Credentials", "Keychain"]

PROGRAM = re.compile(r"[A-Za-z0-9_.-]+")  # behind docker-credential-


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who one is: a user and password, or a refresh token that a login has left."""

    username: str = ""
    password: str = field(default="", repr=False)
    refresh: str | None = field(default=None, repr=False)


class Keychain:
    """All that this user may know.

    given: credentials that come before what files say. Files, the first that knows the
    registry counts: REGISTRY_AUTH_FILE; else docker's config.json (in DOCKER_CONFIG, or
    ~/.docker), podman's auth.json of this session and of this user."""

    def __init__(self, given: Credentials | None = None, environ: Mapping[str, str] | None = None) -> None:
        self._given = given
        self._environ = os.environ if environ is None else environ

    def find(self, reference: Reference, *, mirror: bool = False) -> Credentials | None:
        """Credentials for an image, or None. Raises BadOption where a file can't be understood or
        its helper fails: silence would become a 401. A `mirror` is not who the given ones are for."""
        if self._given is not None and not mirror:
            return self._given
        for path in self._files():
            found = _from_file(path, reference)
            if found is not None:
                return found
        return None

    def _files(self) -> Iterator[str]:
        environ = self._environ
        if named := environ.get("REGISTRY_AUTH_FILE"):
            yield named
            return
        home = environ.get("HOME") or os.path.expanduser("~")
        yield os.path.join(environ.get("DOCKER_CONFIG") or os.path.join(home, ".docker"), "config.json")
        if runtime := environ.get("XDG_RUNTIME_DIR"):
            yield os.path.join(runtime, "containers", "auth.json")
        config = environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
        yield os.path.join(config, "containers", "auth.json")


def _from_file(path: str, reference: Reference) -> Credentials | None:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise _bad(path, "it can't be read") from error
    try:
        document = json.loads(text or "{}")
    except (ValueError, RecursionError):
        raise _bad(path, "it is not JSON") from None
    if not isinstance(document, dict):
        raise _bad(path, "it is not a JSON object")
    return _from_document(path, document, reference)


def _from_document(path: str, document: dict[str, Any], reference: Reference) -> Credentials | None:
    from docker.auth import AuthConfig
    from docker.errors import DockerException

    sections = {name: document[name] for name in ("auths", "credsStore", "credHelpers") if document.get(name)}
    if not sections:
        return None
    helpers = sections.get("credHelpers", {})
    if not isinstance(helpers, dict):
        raise _bad(path, "credHelpers is not an object")
    for program in [sections.get("credsStore", "none"), *helpers.values()]:
        if not isinstance(program, str) or not PROGRAM.fullmatch(program):
            raise _bad(path, "a helper's name is none")
    try:
        config = AuthConfig.load_config(None, sections)
    except (DockerException, ValueError, TypeError, AttributeError):
        raise _bad(path, "what it says of credentials can't be understood") from None
    for name in _names(reference):
        entry = config.auths.get(name)
        if entry:
            return _credentials(entry)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a helper is missing is told by its error
            return _credentials(config.resolve_authconfig(reference.registry))
    except (DockerException, ValueError, KeyError) as error:
        program = config.get_credential_store(reference.registry)
        raise _bad(path, f"its helper docker-credential-{program} failed for {reference.registry}") from error


def _names(reference: Reference) -> Iterator[str]:
    """Keys of parts of the registry, the longest first."""
    parts = reference.repository.split("/")
    for length in range(len(parts), 0, -1):
        yield "/".join([reference.registry, *parts[:length]])


def _credentials(entry: Mapping[str, Any] | None) -> Credentials | None:
    if not entry:
        return None
    found = {key.lower(): value for key, value in entry.items()}
    if token := found.get("identitytoken"):
        return Credentials(refresh=token)
    username, password = found.get("username"), found.get("password")
    if not isinstance(username, str) or not isinstance(password, str) or not (username or password):
        return None
    return Credentials(username, password)


def _bad(path: str, what: str) -> BadOption:
    return BadOption(f"the file of credentials {path}: {what}", name="keychain", value=path, hint="log in again")
