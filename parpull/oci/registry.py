"""Registries: from a reference to the manifest for a platform, proven; and blobs for a Client.

Manifests, configs and tokens are small and asked for here. A blob is a Source: a Client
fetches it like any URL, with the token that is good now, and asks for another when that
is refused. Mirrors are tried in order before the registry; one that fails is told of and
passed over. Any thread may ask.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from urllib.parse import urljoin

from ..errors import BadOption, BadResponse, ChecksumMismatch, ConnectFailed, ParpullError, TLSFailed, redact
from ..options import Options
from ..settings import ca_file
from ..sources import origin_of
from . import media
from .answers import next_page, quota_of, refused
from .digest import Digest
from .doors import BlobSource, Door
from .errors import BadManifest, UnknownPlatform
from .hosts import Files
from .keychain import Credentials, Keychain
from .manifest import CONFIG_LIMIT, MANIFEST_LIMIT, Config, Descriptor, Index, Manifest, parse_config, parse_manifest
from .platforms import Platform
from .reference import DOCKER, Reference
from .wire import REDIRECTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self, TypeVar

    from ..options import OptionFields
    from .answers import Quota
    from .hosts import Host
    from .wire import Answer

    T = TypeVar("T")

__all__ = ["Document", "Image", "Registry", "this_machine"]

LIST_LIMIT = 4 << 20  # bytes of a page of tags
PAGES = 100
MOST_TRIED = 64  # documents that an index that names no platforms makes us ask for


@dataclass(frozen=True, slots=True)
class Document:
    """An index or a manifest as it came: its bytes, what they say, what they are called.
    `quota`: what the registry counted; `host`: who gave it."""

    body: bytes = field(repr=False)
    content: Index | Manifest
    descriptor: Descriptor
    quota: Quota | None = None
    host: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """What a reference means on a platform. reference: pinned to the first document;
    documents: what led to the manifest, the index first, the manifest last; config: None
    of an artifact, whose layers are not to be unpacked; config_body: its bytes."""

    reference: Reference
    documents: tuple[Document, ...]
    manifest: Manifest
    config: Config | None = None
    config_body: bytes | None = field(default=None, repr=False)

    @property
    def quota(self) -> Quota | None:
        """What the registry counted last."""
        return next((each.quota for each in reversed(self.documents) if each.quota), None)


class Registry:
    """Asks registries; a context manager.

    options: of its requests (proxy, TLS, timeouts, headers for the registry alone; `auth`
    comes before the keychain). files: those of mirrors, none by default. plain_http: whether
    the registry itself is spoken to without TLS. warn: told of mirrors that were passed over."""

    def __init__(
        self,
        options: Options | None = None,
        *,
        keychain: Keychain | None = None,
        files: Files | None = None,
        plain_http: bool = False,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self._options = options or Options()
        given = Credentials(*self._options.auth) if self._options.auth else None
        self._keychain = keychain or Keychain(given)
        self._files = files or Files()
        self._plain_http = plain_http
        self._warn = warn or (lambda message: None)
        self._lock = threading.Lock()
        self._doors: dict[tuple[str, str], Door] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def resolve(self, reference: Reference, platform: Platform | None = None) -> Image:
        """The image of a reference for a platform (None: this machine's), by one request for
        each document. Raises UnknownPlatform, NotFound, AccessDenied, RateLimited, BadManifest,
        ChecksumMismatch, SizeMismatch, BadOption and what the network brings."""
        wanted = platform or this_machine()
        first = self.document(reference)
        pinned = reference.at(first.descriptor.digest)
        found = self._descend(pinned, (first,), wanted, iter(range(MOST_TRIED)))
        if found is not None:
            return found
        index = first.content
        assert isinstance(index, Index)
        index.choose(wanted)  # raises, unless its candidates turned out to be for others
        raise UnknownPlatform(f"the image is not made for {wanted}", wanted=str(wanted), available=index.platforms)

    def _descend(
        self,
        reference: Reference,
        path: tuple[Document, ...],
        wanted: Platform,
        tries: Iterator[int],
        named: bool = False,
    ) -> Image | None:
        """The first image below the last document that `wanted` runs; `named`: an index says so;
        `tries`: as many documents are looked at."""
        document = path[-1]
        if isinstance(document.content, Manifest):
            return self._image(reference, path, document.content, None if named else wanted)
        for each in document.content.candidates(wanted):
            if next(tries, None) is None:
                reason = f"which of its images is for {wanted} is not found among {MOST_TRIED}"
                raise BadManifest(f"{reference.short}: {reason}", reason=reason, digest=str(reference.digest))
            below = self.document(reference, each, depth=document.content.depth + 1)
            found = self._descend(reference, (*path, below), wanted, tries, named or each.platform is not None)
            if found is not None:
                return found
        return None

    def _image(
        self, reference: Reference, path: tuple[Document, ...], manifest: Manifest, wanted: Platform | None
    ) -> Image | None:
        """`wanted`: what the config has to be for; None where that is known."""
        if not manifest.is_image:
            return Image(reference, path, manifest)
        config, body = self.config(reference, manifest)
        if wanted is not None and not wanted.runs(config.platform):
            if len(path) > 1:
                return None
            there = str(config.platform.normal())
            raise UnknownPlatform(
                f"the image is not made for {wanted}",
                hint=f"it is made for {there}", wanted=str(wanted), available=(there,),
            )  # fmt: skip
        return Image(reference, path, manifest, config, body)

    def document(self, reference: Reference, descriptor: Descriptor | None = None, *, depth: int = 0) -> Document:
        """The index or manifest of a reference, or of an index's `descriptor`. Raises as resolve()."""
        if descriptor is not None:
            reference = reference.at(descriptor.digest)
            if descriptor.data is not None:
                return _document(descriptor.data, descriptor.media_type, reference, depth, None, "")
            if descriptor.size > MANIFEST_LIMIT:
                _too_long(descriptor, MANIFEST_LIMIT)

        def get(door: Door) -> Document:
            url = door.url(f"{door.host.repository}/manifests/{reference.locator}")
            answer = _good(self._ask(door, "GET", url, reference, MANIFEST_LIMIT, media.ACCEPT), reference, door)
            return _document(
                answer.body, answer.headers.get("content-type"), reference, depth, answer, door.host.name, descriptor
            )

        return self._first(reference, get)

    def head(self, reference: Reference) -> Descriptor:
        """What a reference means now, without its bytes and without being counted as a pull
        (a GET, where the registry does not say it all). Raises as resolve()."""

        def ask(door: Door) -> Descriptor | None:
            url = door.url(f"{door.host.repository}/manifests/{reference.locator}")
            answer = self._ask(door, "HEAD", url, reference, MANIFEST_LIMIT, media.ACCEPT)
            digest, kind = _stated(answer), media.plain(answer.headers.get("content-type"))
            if answer.status in (405, *REDIRECTS) or (
                answer.status == 200 and (digest is None or answer.length is None)
            ):
                return None
            _good(answer, reference, door)
            assert digest is not None and answer.length is not None  # noqa: PT018
            named = reference.digest or digest
            if named.algorithm == digest.algorithm and named != digest:
                raise _mismatch(named, digest)
            digest = named
            return Descriptor(kind, digest, answer.length)

        return self._first(reference, ask) or self.document(reference).descriptor

    def config(self, reference: Reference, manifest: Manifest) -> tuple[Config, bytes]:
        """A manifest's config, and its bytes. Raises as resolve()."""
        descriptor = manifest.config
        body = descriptor.data
        if body is None:
            if descriptor.size > CONFIG_LIMIT:
                _too_long(descriptor, CONFIG_LIMIT)

            def get(door: Door) -> bytes:
                url = door.url(f"{door.host.repository}/blobs/{descriptor.digest}")
                found = _good(self._ask(door, "GET", url, reference, CONFIG_LIMIT), reference, door).body
                parse_config(found, descriptor)  # a mirror's fault is the mirror's
                return found

            body = self._first(reference.at(descriptor.digest), get)
        config = parse_config(body, descriptor)
        manifest.check(config)
        return config, body

    def blob(self, reference: Reference, descriptor: Descriptor) -> BlobSource:
        """A blob of an image, for a Client. Where there are mirrors, each is asked whether it
        has it. `data` and `urls` of the descriptor are the caller's. Raises as resolve()."""
        reference = reference.at(descriptor.digest)
        doors = self._usable(reference)

        def look(door: Door) -> BlobSource:
            found = BlobSource(door, descriptor)
            if len(doors) > 1:
                answer = door.ask("HEAD", found.url, limit=0)
                if answer.status not in (200, 405, *REDIRECTS):
                    raise refused(answer, f"blob of {reference.name}")
            return found

        return self._first(reference, look)

    def tags(self, reference: Reference, most: int = 10_000) -> tuple[str, ...]:
        """The tags that there are in a reference's repository, `most` at most."""

        def get(door: Door) -> tuple[str, ...]:
            import json

            url: str | None = door.url(f"{door.host.repository}/tags/list")
            home = origin_of(url or "")
            found: list[str] = []
            for _ in range(PAGES):
                if url is None or len(found) >= most or origin_of(url) != home:
                    break
                answer = _good(self._ask(door, "GET", url, reference, LIST_LIMIT), reference, door)
                try:
                    found += [str(tag) for tag in json.loads(answer.body)["tags"] or []]
                except (ValueError, LookupError, TypeError, RecursionError):
                    reason = "the list of tags makes no sense"
                    raise BadResponse(f"{door.host.name}: {reason}", url=redact(url), reason=reason) from None
                link = next_page(answer.headers)
                url = urljoin(url, link) if link else None
            return tuple(found[:most])

        return self._first(reference, get)

    def close(self) -> None:
        """Close its connections. Blobs under way need it open until they have ended."""
        with self._lock:
            doors, self._doors = self._doors, {}
            folder, self._folder = self._folder, None
        for door in doors.values():
            door.wire.close()
        if folder is not None:
            folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- hosts ------------------------------------------------------------------------------

    def _ask(self, door: Door, method: str, url: str, reference: Reference, limit: int, accept: str = "*/*") -> Answer:
        try:
            return door.ask(method, url, limit=limit, accept=accept)
        except BadResponse as error:
            if "more than" not in error.reason:
                raise
            raise BadManifest(
                f"{reference.short}: {error.reason}", reason=error.reason, digest=str(reference.digest or "") or None
            ) from None

    def _usable(self, reference: Reference) -> list[Door]:
        found, why = [], "none may be asked for it"
        for host in self._files.hosts(reference, plain_http=self._plain_http):
            if not (host.pulls if reference.digest is not None else host.resolves):
                continue
            if host.unusable is not None:
                why = f"{host.name}: {host.unusable}"
                self._warn(f"{host.name} is not used: {host.unusable}")
                continue
            found.append(self._door(host, reference))
        if not found:
            raise BadOption(f"no host is left for {reference.short}: {why}", name="mirrors", value=reference.registry)
        return found

    def _first(self, reference: Reference, do: Callable[[Door], T]) -> T:
        """What the first host gives that does not fail; else what is wrong with the registry."""
        errors: list[tuple[bool, ParpullError]] = []
        doors = self._usable(reference)
        for door in doors:
            try:
                return do(door)
            except ParpullError as error:
                errors.append((door.host.mirror, error))
                if door is not doors[-1]:
                    self._warn(f"{door.host.name} is not used: {error}")
        # One that answers has more to say than its other port that does not.
        own = [error for mirror, error in errors if not mirror]
        raise next((e for e in own if not isinstance(e, (ConnectFailed, TLSFailed))), errors[-1][1])

    def _door(self, host: Host, reference: Reference) -> Door:
        with self._lock:
            key = (host.url, host.repository)
            if key not in self._doors:
                who = reference if not host.mirror else Reference(_registry_of(host), host.repository)
                find = lambda: self._keychain.find(who, mirror=host.mirror)  # noqa: E731
                self._doors[key] = Door(host, self._options, self._own(host), find)
            return self._doors[key]

    def _own(self, host: Host) -> OptionFields:
        """Under the lock. A mirror's own certificates instead of the user's."""
        fields: OptionFields = {}
        if host.mirror:
            fields |= {"cert": None, "key": None}
        if host.cert or host.key:
            fields |= {"cert": host.cert, "key": host.key}
        if host.ca:
            fields |= {"ca_file": self._bundle(host)}
        return fields

    def _bundle(self, host: Host) -> str:
        """The usual authorities and the host's in one file: its blobs may lie elsewhere."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="parpull-")
        usual = ca_file(self._options.ca_file)
        path = os.path.join(self._folder.name, f"{len(self._doors)}.pem")
        try:
            with open(path, "wb") as bundle:
                for each in (*([usual] if usual else []), *host.ca):
                    with open(each, "rb") as file:
                        bundle.write(file.read() + b"\n")
        except OSError as error:
            raise BadOption(
                f"{host.name}: its authorities can't be read: {error.strerror}", name="ca", value=each
            ) from None
        return path


def this_machine() -> Platform:
    """What runs here: Linux, also where a machine of another system runs containers."""
    system = "freebsd" if sys.platform.startswith("freebsd") else "linux"
    return Platform.parse(f"{system}/{os.uname().machine}")


def _registry_of(host: Host) -> str:
    return DOCKER if host.name == "registry-1.docker.io" else host.name


def _stated(answer: Answer) -> Digest | None:
    try:
        return Digest.parse(answer.headers.get("docker-content-digest", ""))
    except ValueError:
        return None


def _good(answer: Answer, reference: Reference, door: Door) -> Answer:
    if answer.status == 200:
        return answer
    hint = None
    if answer.status in (401, 403):
        hint = f"docker login {_registry_of(door.host)}; some registries say so of what is not there, too"
    elif answer.status == 404:
        hint = "check the name and the tag" if reference.digest is None else "check the name and the digest"
    raise refused(answer, reference.short, hint=hint)


def _document(
    body: bytes,
    kind: str | None,
    reference: Reference,
    depth: int,
    answer: Answer | None,
    host: str,
    descriptor: Descriptor | None = None,
) -> Document:
    digest = reference.digest or (_stated(answer) if answer is not None else None) or Digest.of(body)
    content = parse_manifest(
        body, kind, digest=digest, size=descriptor.size if descriptor is not None else None, depth=depth
    )  # fmt: skip
    quota = quota_of(answer.headers) if answer is not None else None
    return Document(body, content, Descriptor(content.media_type, digest, len(body)), quota, host)


def _mismatch(expected: Digest, actual: Digest) -> ChecksumMismatch:
    return ChecksumMismatch(
        f"the registry has {actual} under the name {expected}",
        algorithm=expected.algorithm, expected=expected.hex, actual=actual.hex,
    )  # fmt: skip


def _too_long(descriptor: Descriptor, limit: int) -> None:
    reason = f"it has {descriptor.size:,} bytes, of at most {limit:,}"
    raise BadManifest(
        f"{descriptor.media_type}: {reason}", reason=reason, digest=str(descriptor.digest)
    )  # fmt: skip
