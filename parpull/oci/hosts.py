"""Where an image may be had: its registry, and mirrors before it.

Two kinds of files name mirrors: containerd's certs.d (a folder per registry with a
hosts.toml) and containers' registries.conf, version 2. Their text is understood here
without looking at anything else; only Files reads. A mirror gets no credentials but
its own. Plain http is spoken where a file has an http:// URL, or says insecure, or the user
asks for it; nothing here makes TLS trust whoever answers.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from ..errors import BadOption, redact

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any, Never

    from .reference import Reference

__all__ = ["Files", "Host", "Rule", "parse_hosts", "parse_registries", "upstream"]

CERTS_D = ("/etc/containerd/certs.d",)
REGISTRIES = "/etc/containers/registries.conf"
UNSAFE = "skip_verify is set, and TLS is never left unproven: name its certificate with ca"
KEYS = ("server", "capabilities", "ca", "client", "skip_verify", "header", "override_path", "dial_timeout", "host")


@dataclass(frozen=True, slots=True)
class Host:
    """One place of an image. url: of its API, up to /v2 (or what stands instead);
    repository: the image's there; mirror: it is another host than the user named, and gets
    nothing that is for that; ns: what to send as ?ns=, if anything; ca: PEM files that are
    trusted beside the usual; cert, key: the client's own; headers: lines for it alone;
    resolves, pulls: whether it may be asked for tags, and for content; unusable: why not at all."""

    url: str
    repository: str
    mirror: bool = False
    ns: str | None = None
    ca: tuple[str, ...] = ()
    cert: str | None = None
    key: str | None = None
    headers: tuple[str, ...] = ()
    resolves: bool = True
    pulls: bool = True
    unusable: str | None = None

    @property
    def name(self) -> str:
        """host, or host:port."""
        return urlsplit(self.url).netloc


def upstream(reference: Reference, *, plain_http: bool = False) -> Host:
    """The registry itself."""
    scheme = "http" if plain_http else "https"
    return Host(f"{scheme}://{reference.endpoint}/v2", reference.repository)


# --- containerd ---------------------------------------------------------------------------


def parse_hosts(text: str, reference: Reference, *, folder: str = "", path: str = "hosts.toml") -> tuple[Host, ...]:
    """The hosts of a hosts.toml, in its order, the registry itself (`server`) last. `folder`: what
    its relative paths are below. Raises BadOption."""
    document = _toml(text, path)
    entries = document.get("host", {})
    if not isinstance(entries, dict) or not all(isinstance(each, dict) for each in entries.values()):
        _bad(path, "host is not a table of tables")
    found = [_host(url, each, reference, folder, path) for url, each in entries.items()]
    server = document.get("server")
    if server is not None and not isinstance(server, str):
        _bad(path, "server is not a text")
    own = {key: value for key, value in document.items() if key != "host"}
    found.append(_host(server or f"https://{reference.endpoint}", own, reference, folder, path))
    return tuple(found)


def _host(url: str, entry: dict[str, Any], reference: Reference, folder: str, path: str) -> Host:
    parts = urlsplit(url if "://" in url else f"https://{url}")
    where = _address(parts.geturl(), path)
    if unknown := [key for key in entry if key not in KEYS]:
        _bad(path, f"{redact(url)} has an unknown key {unknown[0][:40]!r}")
    tail = parts.path.rstrip("/")
    if not entry.get("override_path", False) and not tail.endswith("/v2"):
        tail += "/v2"
    may = _texts(entry.get("capabilities", ["pull", "resolve"]), "capabilities", path)
    ca = tuple(_absolute(each, folder) for each in _texts(entry.get("ca", []), "ca", path))
    cert, key, more = _client(entry.get("client"), folder, path)
    headers = entry.get("header", {})
    if not isinstance(headers, dict):
        _bad(path, "header is not a table")
    lines = tuple(f"{name}: {value}" for name, values in headers.items() for value in _texts(values, "header", path))
    if not all(line.isprintable() for line in lines):
        _bad(path, "a header holds control characters")
    # As containerd does: whoever is not the registry has to be told which one is meant.
    elsewhere = parts.netloc not in (reference.registry, reference.endpoint)
    return Host(
        f"{parts.scheme}://{where}{tail}",
        reference.repository,
        mirror=elsewhere,
        ns=reference.registry if elsewhere else None,
        ca=ca,
        cert=cert,
        key=key,
        headers=lines,
        resolves="resolve" in may,
        pulls="pull" in may,
        unusable=UNSAFE if entry.get("skip_verify", False) and parts.scheme == "https" else more,
    )


def _client(value: object, folder: str, path: str) -> tuple[str | None, str | None, str | None]:
    """(certificate, key, why it can't be used): a file of both, or pairs of files."""
    if value is None:
        return None, None, None
    if isinstance(value, str):
        return _absolute(value, folder), None, None
    listed: list[Any] = value if isinstance(value, list) else [None]
    pairs = [[each, ""] if isinstance(each, str) else each for each in listed]
    if not all(isinstance(pair, list) and len(pair) <= 2 and all(isinstance(x, str) for x in pair) for pair in pairs):
        _bad(path, "client is neither a file nor pairs of files")
    if len(pairs) > 1:
        return None, None, "it has several client certificates, of which only one can be shown"
    cert, key = (*pairs[0], "")[:2] if pairs else ("", "")
    return _absolute(cert, folder) if cert else None, _absolute(key, folder) if key else None, None


def folders_of(registry: str) -> tuple[str, ...]:
    """The names of a registry's folder in certs.d, as containerd looks for them."""
    name, colon, port = registry.rpartition(":")
    own = (f"{name}_{port}_",) if colon and port.isdecimal() else ()
    return (*own, registry, "_default")


# --- containers ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rule:
    """A [[registry]] of registries.conf. mirrors: (location, insecure, which pulls)."""

    prefix: str
    location: str
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[tuple[str, bool, str], ...] = ()

    def fits(self, name: str) -> int:
        """How much of registry/repository the prefix covers, 0 for nothing: the most wins."""
        if self.prefix.startswith("*."):
            host = name.partition("/")[0].partition(":")[0]
            return len(name.partition("/")[0]) if host.endswith(self.prefix[1:]) and "/" not in self.prefix else 0
        rest = name[len(self.prefix) :]
        return len(self.prefix) if name.startswith(self.prefix) and (not rest or rest[0] == "/") else 0

    def hosts(self, reference: Reference, *, plain_http: bool = False) -> tuple[Host, ...]:
        """The mirrors that this reference may be pulled from, and the location."""
        found: list[Host] = []
        for location, insecure, which in self.mirrors:
            digest = reference.digest is not None
            if which == "all" or (which == "digest-only") == digest:
                found += self._at(location, reference, insecure)
        moved = self.location not in (self.prefix, "")
        if not moved:
            own = upstream(reference, plain_http=plain_http)
            both = self.insecure and not plain_http
            return (*found, own, *([upstream(reference, plain_http=True)] if both else []))
        return (*found, *self._at(self.location, reference, self.insecure or plain_http))

    def _at(self, location: str, reference: Reference, insecure: bool) -> Iterator[Host]:
        name = reference.name
        host, _, repository = (location + name[self.fits(name) :]).partition("/")
        host = "registry-1.docker.io" if host == "docker.io" else host
        for scheme in ("https", "http")[: 1 + insecure]:
            yield Host(f"{scheme}://{host}/v2", repository, mirror=host != reference.endpoint)


def parse_registries(text: str, *, path: str = "registries.conf") -> tuple[Rule, ...]:
    """The rules of a registries.conf of version 2. Raises BadOption."""
    document = _toml(text, path)
    if isinstance(document.get("registries"), dict):
        _bad(path, "it is of version 1, which nobody reads any more")
    return tuple(_rule(each, path) for each in _tables(document.get("registry", []), "registry", path))


def _rule(entry: dict[str, Any], path: str) -> Rule:
    location = _location(entry, path)
    prefix = entry.get("prefix") or location
    if not isinstance(prefix, str) or not prefix:
        _bad(path, "a registry has neither prefix nor location")
    if not location and not prefix.startswith("*."):
        location = prefix
    only = "digest-only" if entry.get("mirror-by-digest-only") is True else "all"
    mirrors = []
    for each in _tables(entry.get("mirror", []), "mirror", path):
        which = each.get("pull-from-mirror") or only
        if which not in ("all", "digest-only", "tag-only"):
            _bad(path, "pull-from-mirror is none of all, digest-only and tag-only")
        if not (where := _location(each, path)):
            _bad(path, "a mirror has no location")
        mirrors.append((where, each.get("insecure") is True, str(which)))
    insecure, blocked = entry.get("insecure") is True, entry.get("blocked") is True
    return Rule(prefix.rstrip("/"), location, insecure, blocked, tuple(mirrors))


def _location(entry: dict[str, Any], path: str) -> str:
    location = entry.get("location", "")
    if not isinstance(location, str) or "://" in location:
        _bad(path, "a location is host[:port][/path], without http:// or https://")
    location = location.strip("/")
    if location:
        _address(f"https://{location}", path)
    return location


def rule_of(rules: Iterable[Rule], reference: Reference) -> Rule | None:
    """The rule whose prefix covers most of the reference; of the same prefix the last."""
    latest = {rule.prefix: rule for rule in rules}.values()
    best = max(latest, key=lambda rule: rule.fits(reference.name), default=None)
    return best if best is not None and best.fits(reference.name) else None


# --- files --------------------------------------------------------------------------------


class Files:
    """The files that name mirrors. certs_d: folders as containerd's, the first that knows
    the registry counts; registries: files as containers', later ones add to earlier ones,
    and are asked where certs.d knows nothing."""

    def __init__(self, certs_d: Iterable[str] = (), registries: Iterable[str] = ()) -> None:
        self._certs_d = tuple(certs_d)
        self._registries = tuple(registries)

    @classmethod
    def of_system(cls, environ: Mapping[str, str] | None = None) -> Files:
        """Where containerd and podman keep them."""
        environ = os.environ if environ is None else environ
        home = environ.get("HOME") or os.path.expanduser("~")
        config = environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
        own = os.path.join(config, "containers", "registries.conf")
        main = environ.get("CONTAINERS_REGISTRIES_CONF") or (own if os.path.exists(own) else REGISTRIES)
        paths = [main]
        for folder in (f"{REGISTRIES}.d", f"{own}.d"):
            if os.path.isdir(folder):
                paths += [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(".conf")]
        return cls(CERTS_D, paths)

    def hosts(self, reference: Reference, *, plain_http: bool = False) -> tuple[Host, ...]:
        """Where to ask, in order; the registry itself comes last. Raises BadOption."""
        found = self._from_certs_d(reference)
        if found is None:
            rules = [rule for path in self._registries for rule in parse_registries(_text(path) or "", path=path)]
            rule = rule_of(rules, reference)
            if rule is not None and rule.blocked:
                raise BadOption(
                    f"{reference.registry} is blocked by registries.conf", name="registry", value=rule.prefix
                )
            if rule is None:
                return (upstream(reference, plain_http=plain_http),)
            return rule.hosts(reference, plain_http=plain_http)
        if plain_http:
            own = found[-1]
            found = (*found[:-1], replace(own, url=own.url.replace("https://", "http://", 1), unusable=None))
        return found

    def _from_certs_d(self, reference: Reference) -> tuple[Host, ...] | None:
        for root in self._certs_d:
            for name in folders_of(reference.registry):
                folder = os.path.join(root, name)
                path = os.path.join(folder, "hosts.toml")
                text = _text(path)
                if text is not None:
                    return parse_hosts(text, reference, folder=folder, path=path)
                if os.path.isdir(folder):
                    return (_from_certificates(folder, reference),)
        return None


def _from_certificates(folder: str, reference: Reference) -> Host:
    """A folder as docker's: *.crt are authorities, NAME.cert and NAME.key the client's own."""
    names = sorted(os.listdir(folder))
    ca = tuple(os.path.join(folder, name) for name in names if name.endswith(".crt"))
    certs = [os.path.join(folder, name) for name in names if name.endswith(".cert")]
    key = certs[0].removesuffix("cert") + "key" if certs else None
    several = "it has several client certificates, of which only one can be shown" if len(certs) > 1 else None
    return replace(upstream(reference), ca=ca, cert=certs[0] if certs else None, key=key, unusable=several)


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError):
        _bad(path, "it can't be read")


def _toml(text: str, path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadOption(f"the file of mirrors {path}: it is not TOML", name="mirrors", value=path) from error


def _tables(value: object, what: str, path: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        _bad(path, f"{what} is not a list of tables")
    return value


def _texts(value: object, what: str, path: str) -> list[str]:
    """A text or a list of them."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        _bad(path, f"{what} is neither a text nor a list of texts")
    return texts


def _absolute(name: str, folder: str) -> str:
    return name if os.path.isabs(name) else os.path.join(folder, name)


def _address(url: str, path: str) -> str:
    """host:port of a URL, checked."""
    try:
        parts = urlsplit(url)
        _ = parts.port
        good = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment or not url.isprintable() or " " in url:
        _bad(path, f"{redact(url)} is not the address of a registry")
    return parts.netloc


def _bad(path: str, what: str) -> Never:
    raise BadOption(f"the file of mirrors {path}: {what}", name="mirrors", value=path)
