"""References: what users call an image. Pure.

    [registry/]repository[:tag][@digest]

The grammar is the registries'; what may be left out is Docker's: no registry is
docker.io, one word there lies in library/, no tag is latest. Two things are stricter:
a first component in upper case is a mistake, not a host without a domain, and a port
is a port. What is refused is shown only where it can't be a password.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace

from .digest import LENGTHS, Digest
from .errors import BadReference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Never

__all__ = ["Reference"]

DOCKER = "docker.io"
LIBRARY = "library/"
LATEST = "latest"
LONGEST_NAME = 255  # of a repository
LONGEST_HOST = 253  # DNS; of a label 63
LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
COMPONENT = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
PORT = re.compile(r"[0-9]{1,5}")
PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
IMAGE_ID = re.compile(r"[0-9a-fA-F]{64}")
SHOWN = 80  # characters of a refused text


@dataclass(frozen=True, slots=True)
class Reference:
    """An image's full name, checked: registry (host, or host:port; IPv6 in brackets),
    repository, tag and digest or None. With both, the digest decides."""

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    def __post_init__(self) -> None:
        _check_registry(self.registry, shown=str(self))
        _check_repository(self.repository, shown=str(self))
        if self.tag is not None:
            _check_tag(self.tag, shown=str(self))

    @classmethod
    def parse(cls, text: str) -> Reference:
        """The reference that a user means. Raises BadReference."""
        shown = _shown(text)
        _check_whole(text, shown)
        name, at, digits = text.partition("@")
        digest = _digest(digits, shown) if at else None
        head, slash, last = name.rpartition("/")
        last, colon, tag = last.partition(":")
        if colon:
            _check_tag(tag, shown)
        registry, repository = _split(head + slash + last, shown)
        _check_registry(registry, shown)
        _check_repository(repository, shown)
        return cls(registry, repository, tag if colon else None if digest else LATEST, digest)

    @property
    def name(self) -> str:
        """Registry and repository."""
        return f"{self.registry}/{self.repository}"

    @property
    def locator(self) -> str:
        """What the registry is asked for: the digest if there is one, else the tag."""
        return str(self.digest or self.tag or LATEST)

    @property
    def endpoint(self) -> str:
        """The host, and port if any, that serves the registry."""
        return "registry-1.docker.io" if self.registry == DOCKER else self.registry

    @property
    def short(self) -> str:
        """As people write it: without docker.io and library/, and without :latest."""
        name = self.name
        if self.registry == DOCKER:
            # Not every name can be shortened: docker.io/localhost/x is not localhost/x.
            candidates = (self.repository.removeprefix(LIBRARY), self.repository)
            name = next((text for text in candidates if self._is_meant_by(text)), name)
        tag = f":{self.tag}" if self.tag and (self.tag != LATEST or self.digest) else ""
        return name + tag + (f"@{self.digest}" if self.digest else "")

    def _is_meant_by(self, name: str) -> bool:
        try:
            return Reference.parse(name).name == self.name
        except BadReference:
            return False

    def at(self, digest: Digest) -> Reference:
        """The same image, pinned to what the tag meant when it was asked for."""
        return replace(self, digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        return self.name + tag + (f"@{self.digest}" if self.digest else "")


def _shown(text: str) -> str:
    """What of a text may be shown: nothing before an @ that does not start a digest, nothing
    of a query, nothing that moves a cursor."""
    before, at, after = text.rpartition("@")
    if at and not (after.partition(":")[0] in LENGTHS and "@" not in before and "://" not in before):
        text = after
    text = re.split(r"[?#]", text, maxsplit=1)[0]
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _bad(shown: str, why: str, hint: str | None = None) -> Never:
    raise BadReference(f"{shown or 'the empty text'} is not an image's name: {why}", hint=hint, reference=shown)


def _check_whole(text: str, shown: str) -> None:
    """What is seen before the text is taken apart."""
    if not text:
        _bad(shown, "there is nothing", "for example alpine, or ghcr.io/owner/name:tag")
    if prefix := PREFIX.match(text):
        _bad(shown, f"it begins with {prefix[0]}", f"leave out {prefix[0]}; a registry without TLS is --plain-http")
    if not text.isascii() or not text.isprintable() or " " in text:
        _bad(shown, "it has spaces, or letters beyond ASCII")
    if "?" in text or "#" in text:
        _bad(shown, "it has a query, like a URL")
    if IMAGE_ID.fullmatch(text):
        _bad(shown, "64 digits are an image's id", f"NAME@sha256:{text[:8].lower()}… asks for a digest")
    if text.count("@") > 1 or "/" in text.partition("@")[2]:
        _bad(shown, "it has a user before the host", "credentials come from `docker login`, not from the name")


def _digest(text: str, shown: str) -> Digest:
    try:
        return Digest.parse(text)
    except ValueError as error:
        _bad(shown, str(error), "NAME@sha256: and 64 digits")


def _split(name: str, shown: str) -> tuple[str, str]:
    """(registry, repository), with what Docker adds."""
    first, slash, rest = name.partition("/")
    is_host = bool(slash) and _is_host(first)
    if slash and not is_host and first != first.lower():
        _bad(
            shown,
            "a repository is in lower case",
            f"{name.lower()}, or {first}:443/{rest} if {first} is a host",
        )
    registry, repository = (first, rest) if is_host else (DOCKER, name)
    if registry in ("index.docker.io", "registry-1.docker.io"):
        registry = DOCKER
    if registry == DOCKER and "/" not in repository and repository:
        repository = LIBRARY + repository
    return registry, repository


def _is_host(first: str) -> bool:
    """Whether a first component is a registry: a word alone is somebody's name on docker.io."""
    return first == "localhost" or "." in first or ":" in first or first.startswith("[")


def _check_registry(registry: str, shown: str) -> None:
    if not _is_host(registry):
        _bad(shown, "the registry is not a host", "a host has a dot or a port, or is localhost")
    if registry.startswith("["):
        host, bracket, port = registry[1:].partition("]")
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            _bad(shown, "what stands in brackets is not an IPv6 address")
        if not bracket or "%" in host or (port and not port.startswith(":")):
            _bad(shown, "after an IPv6 address in brackets comes :port or /", "[::1]:5000/name")
        colon, port = port[:1], port[1:]
    else:
        host, colon, port = registry.partition(":")
        if ":" in port:
            _bad(shown, "an IPv6 address stands in brackets", "[::1]:5000/name")
        if len(host) > LONGEST_HOST or not all(LABEL.fullmatch(label) for label in host.split(".")):
            _bad(shown, "the registry is not a host")
    if colon and not (PORT.fullmatch(port) and 0 < int(port) < 65536):
        _bad(shown, "the registry's port is not one of 1 to 65535")


def _check_repository(repository: str, shown: str) -> None:
    if len(repository) > LONGEST_NAME:
        _bad(shown, f"a repository has at most {LONGEST_NAME} characters, not {len(repository)}")
    for component in repository.split("/"):
        if COMPONENT.fullmatch(component):
            continue
        if not component:
            _bad(shown, "a part of the repository is empty", "host/repository:tag, with single slashes")
        if COMPONENT.fullmatch(component.lower()):
            _bad(shown, "a repository is in lower case", repository.lower())
        if ":" in component:
            _bad(shown, "a tag stands at the end", "host:port/repository:tag")
        _bad(shown, "a repository has a-z, 0-9, and single . _ or dashes between them")


def _check_tag(tag: str, shown: str) -> None:
    if TAG.fullmatch(tag):
        return
    if not tag:
        _bad(shown, "the tag is empty", "leave out the colon for :latest")
    if len(tag) > 128:
        _bad(shown, f"a tag has at most 128 characters, not {len(tag)}")
    _bad(shown, "a tag has letters, digits, _ . and -, and does not begin with . or -")
