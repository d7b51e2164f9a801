"""Registries: Debian's docker-registry as a real one, and a scripted one for tokens and redirects.

`DockerRegistry` is a process as in real.py. `Scripted` runs in threads of the test's own: a registry,
the server of its tokens, and (on another port, which is another origin) the storage it redirects
to; it keeps all that it was asked. `Store` is what they hold, and pushes it by the registry's API.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import parse_qs, urljoin, urlsplit

from tests.servers.fetch import debian, go
from tests.servers.real import RealServer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Crane", "DockerRegistry", "Scripted", "Store"]

USER, PASSWORD = "me", "geheim"
BCRYPT = "$2b$04$abcdefghijklmnopqrstuuPWRtT5yx7FBi4dcf6ROhboeNunUrLQ."  # of PASSWORD
OCI = "application/vnd.oci.image."
INDEX, MANIFEST, CONFIG, LAYER = (
    f"{OCI}{kind}" for kind in ("index.v1+json", "manifest.v1+json", "config.v1+json", "layer.v1.tar")
)


def basic(user: str = USER, password: str = PASSWORD) -> str:
    """The value of an Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def digest_of(body: bytes) -> str:
    """sha256:HEX."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


@dataclass
class Store:
    """Blobs by digest; manifests by tag and by digest, with their types."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    def blob(self, body: bytes, media_type: str = LAYER, **more: Any) -> dict[str, Any]:
        """Keep a blob; its descriptor."""
        self.blobs[digest_of(body)] = body
        return {"mediaType": media_type, "digest": digest_of(body), "size": len(body), **more}

    def document(self, document: Mapping[str, Any], *names: str, **more: Any) -> dict[str, Any]:
        """Keep a manifest or an index under its digest and these tags; its descriptor."""
        body, kind = json.dumps(document).encode(), document["mediaType"]
        for name in (digest_of(body), *names):
            self.manifests[name] = (kind, body)
        return {"mediaType": kind, "digest": digest_of(body), "size": len(body), **more}

    def image(self, layers: Sequence[bytes], *names: str, platform: str = "linux/amd64", **more: Any) -> dict[str, Any]:
        """Keep an image whose layers are these uncompressed bytes; its manifest's descriptor."""
        system, architecture, *variant = platform.split("/")
        about = {"os": system, "architecture": architecture, **({"variant": variant[0]} if variant else {})}
        config = {**about, "rootfs": {"type": "layers", "diff_ids": [digest_of(each) for each in layers]}}
        return self.document(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": self.blob(json.dumps(config).encode(), CONFIG),
                "layers": [self.blob(each) for each in layers],
            },
            *names,
            **more,
        )

    def index(self, images: Mapping[str, Sequence[bytes]], *names: str) -> dict[str, Any]:
        """Keep an index of images by platform."""
        manifests = []
        for platform, layers in images.items():
            parts = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
            manifests.append(self.image(layers, platform=platform) | {"platform": parts})
        return self.document({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}, *names)

    def push(self, base: str, repository: str, authorization: str | None = None) -> None:
        """Push all of it to the registry at `base`, images before what names them."""
        own = {"Authorization": authorization} if authorization else {}

        def ask(method: str, url: str, body: bytes, kind: str) -> str:
            request = urllib.request.Request(url, body, {"Content-Type": kind, **own}, method=method)
            with urllib.request.urlopen(request, timeout=20) as answer:
                return str(answer.headers.get("Location"))

        for digest, body in self.blobs.items():
            place = urljoin(base, ask("POST", f"{base}/v2/{repository}/blobs/uploads/", b"", "text/plain"))
            ask("PUT", f"{place}{'&' if '?' in place else '?'}digest={digest}", body, "application/octet-stream")
        for name, (kind, body) in self.manifests.items():
            ask("PUT", f"{base}/v2/{repository}/manifests/{name}", body, kind)


class RealRegistry(RealServer):
    """What tests ask of one."""

    INHERITS = False

    @property
    def base(self) -> str:
        """Its address, without a slash at the end."""
        return self.url().rstrip("/")

    @property
    def host(self) -> str:
        """host:port, as references have it."""
        return f"{self.HOST}:{self.port}"


class DockerRegistry(RealRegistry):
    """docker-registry from Debian's package, with a user (me:geheim) or without."""

    def __init__(self, root: Any, *, users: bool = False, tls: bool = False) -> None:
        self._users = users
        self._program, self._environment = debian("docker-registry", "usr/bin/docker-registry")
        super().__init__(root, tls=tls)

    def seen(self) -> list[str]:
        """METHOD PATH STATUS of each request so far."""
        lines = [line for line in self.log().splitlines() if '"' in line and "HTTP/1" in line]
        return [" ".join([*line.split('"')[1].split()[:2], line.split('"')[2].split()[0]]) for line in lines]

    def command(self, fd: int) -> tuple[Sequence[str], Mapping[str, str]]:
        """Its own configuration, and nothing of the environment's."""
        certificate = self._certificate
        tls = {"certificate": str(certificate.cert_file), "key": str(certificate.key_file)} if certificate else None
        about: dict[str, Any] = {
            "version": 0.1,
            "log": {"accesslog": {"disabled": False}, "level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(self.root)}, "delete": {"enabled": True}},
            "http": {"addr": self.host, "secret": "tests", **({"tls": tls} if tls else {})},
        }
        if self._users:
            path = self.folder / "htpasswd"
            path.write_text(f"{USER}:{BCRYPT}\n")
            about["auth"] = {"htpasswd": {"realm": "tests", "path": str(path)}}
        conf = self.folder / "config.yml"
        conf.write_text(json.dumps(about))  # JSON is YAML
        return [str(self._program), "serve", str(conf)], self._environment


class Crane(RealRegistry):
    """`crane registry serve` of go-containerregistry: what it is given stays in a folder."""

    def __init__(self, root: Any) -> None:
        self._program = go("github.com/google/go-containerregistry/cmd/crane", "v0.20.6")
        super().__init__(root)

    def command(self, fd: int) -> tuple[Sequence[str], Mapping[str, str]]:
        """Blobs on disk, manifests in its memory."""
        return [str(self._program), "registry", "serve", "--address", self.host, "--disk", str(self.root)], {}


class Seen(NamedTuple):
    """A request: what was asked, and the status that it got."""

    method: str
    path: str
    query: dict[str, list[str]]
    authorization: str | None
    form: dict[str, list[str]]
    range: str | None
    status: int


class Scripted:
    """A registry whose manner a test sets by attributes, at any time.

    tokens: whether one is wanted. expires: what its answers say. uses: requests for blobs that
    a token is good for. users: who gets one (None: anybody). post, get: what the token server
    answers to that method. scope: what a 401 asks for instead of what is needed. signed: how
    many requests a signed address of a blob is good for (0: no redirect). ranges: whether it has
    any. extra: headers. asked: connections so far."""

    def __init__(self, store: Store | None = None) -> None:
        self.store = store or Store()
        self.tokens = self.basic = False
        self.expires: int | None = 300
        self.uses: int | None = None
        self.users: dict[str, str] | None = None
        self.refresh: str | None = None
        self.post = self.get = 200
        self.needs: str | None = None  # a scope that the first 401 does not name
        self.signed = 0
        self.away: str | None = None  # what the storage wants to be shown
        self.status: dict[str, int] = {}  # of a path's end
        self.extra: dict[str, str] = {}
        self.page = 2
        self.ranges = True
        self.log: list[Seen] = []
        self.connections = 0
        self._lock = threading.Lock()
        self._good: dict[str, list[str]] = {}
        self._used: Counter[str] = Counter()
        self._issued = self._signatures = 0
        self._servers = [_serve(self, name) for name in ("registry", "storage")]
        self.port, self.storage_port = (each.server_address[1] for each in self._servers)
        self.host = f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Close both ports."""
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def revoke(self) -> None:
        """No token that was given is good any more."""
        with self._lock:
            self._good.clear()

    def asked(self, beginning: str = "", method: str | None = None) -> list[Seen]:
        """The requests for paths that begin so."""
        with self._lock:
            found = [each for each in self.log if each.path.startswith(beginning)]
        return [each for each in found if method in (None, each.method)]

    # --- answers: (status, headers, body) ----------------------------------------------------

    def answer(self, ask: BaseHTTPRequestHandler, name: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """On the server's threads."""
        parts = urlsplit(ask.path)
        query, shown = parse_qs(parts.query), ask.headers.get("Authorization")
        form = parse_qs(body.decode())
        with self._lock:
            if name == "storage":
                made = self._storage(parts.path, query)
            elif parts.path == "/token":
                made = self._token(ask.command, query, form, shown)
            else:
                made = self._registry(parts.path, query, shown)
            seen = Seen(ask.command, f"/{name}" * (name == "storage") + parts.path, query, shown, form,
                        ask.headers.get("Range"), made[0])  # fmt: skip
            self.log.append(seen)
        return made

    def _storage(self, path: str, query: dict[str, list[str]]) -> tuple[int, dict[str, str], bytes]:
        signature = query.get("sig", [""])[0]
        self._used[signature] += 1
        if self.away is not None:
            return 401, {"WWW-Authenticate": self.away}, b""
        if self._used[signature] > self.signed:
            return 403, {}, b"expired"
        return 200, {}, self.store.blobs[path.rpartition("/")[2]]

    def _token(
        self, method: str, query: dict[str, list[str]], form: dict[str, list[str]], shown: str | None
    ) -> tuple[int, dict[str, str], bytes]:
        planned = self.post if method == "POST" else self.get
        if planned != 200:
            return planned, {"Retry-After": "7"} if planned == 429 else {}, b""
        scopes = form["scope"][0].split() if method == "POST" else query.get("scope", [])
        if method == "POST" and form["grant_type"] == ["refresh_token"]:
            good = form["refresh_token"] == [self.refresh]
        elif method == "POST":
            good = (self.users or {}).get(form["username"][0]) == form["password"][0]
        else:
            good = self.users is None or shown in {basic(*pair) for pair in self.users.items()}
        if not good:
            return 401, {}, b"{}"
        self._issued += 1
        value = f"token-{self._issued}"
        self._good[value] = scopes
        about = {"token" if method == "GET" else "access_token": value}
        return 200, {}, json.dumps(about | ({"expires_in": self.expires} if self.expires else {})).encode()

    def _registry(self, path: str, query: dict[str, list[str]], shown: str | None) -> tuple[int, dict[str, str], bytes]:
        for end, status in self.status.items():
            if path.endswith(end):
                return status, self.extra, b'{"errors": [{"code": "SCRIPTED"}]}'
        repository = path.removeprefix("/v2/").rsplit("/", 2)[0]
        refused = self._gate(repository, shown, is_blob="/blobs/" in path)
        if refused is not None:
            return refused
        if path.rstrip("/") == "/v2":
            return 200, {}, b"{}"
        return self._content(path, repository, query)

    def _gate(self, repository: str, shown: str | None, *, is_blob: bool) -> tuple[int, dict[str, str], bytes] | None:
        if self.basic and shown != basic():
            return 401, {"WWW-Authenticate": 'Basic realm="tests"'}, b"{}"
        if not self.tokens:
            return None
        value = (shown or "").removeprefix("Bearer ")
        scopes = [f"repository:{repository}:pull"] if repository != "/v2/" and repository else []
        granted = self._good.get(value)
        error = ""
        if granted is not None:
            lacks = [each for each in (*scopes, *([self.needs] if self.needs else [])) if each not in granted]
            if self.uses is not None and is_blob:
                self._used[value] += 1
                if self._used[value] >= self.uses:
                    del self._good[value]
            if not lacks:
                return None
            scopes, error = lacks, ',error="insufficient_scope"'
        scope = f',scope="{" ".join(scopes)}"' if scopes else ""
        challenge = f'Bearer realm="http://{self.host}/token",service="tests"{scope}{error}'
        return 401, {"WWW-Authenticate": challenge}, b"{}"

    def _content(self, path: str, repository: str, query: dict[str, list[str]]) -> tuple[int, dict[str, str], bytes]:
        name = path.rpartition("/")[2]
        if path.endswith("/tags/list"):
            tags = sorted(each for each in self.store.manifests if ":" not in each)
            at = int(query.get("last", ["0"])[0])
            more = {"Link": f'<{path}?last={at + self.page}>; rel="next"'} if at + self.page < len(tags) else {}
            return 200, more, json.dumps({"name": repository, "tags": tags[at : at + self.page]}).encode()
        if "/blobs/" in path and name in self.store.blobs:
            if not self.signed:
                return 200, {}, self.store.blobs[name]
            self._signatures += 1
            return 307, {"Location": f"http://127.0.0.1:{self.storage_port}/{name}?sig=s{self._signatures}"}, b""
        if "/manifests/" in path and name in self.store.manifests:
            kind, body = self.store.manifests[name]
            return 200, {"Content-Type": kind, "Docker-Content-Digest": digest_of(body), **self.extra}, body
        return 404, {}, b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}'


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that has seen enough is no error."""


def _serve(script: Scripted, name: str) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 2  # of a connection that is kept
        disable_nagle_algorithm = True  # head and body are two writes

        def setup(self) -> None:
            super().setup()
            with script._lock:
                script.connections += 1

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, found = script.answer(self, name, body)
            asked = self.headers.get("Range")
            headers = {"Content-Type": "application/octet-stream", **headers}
            if status == 200 and asked and script.ranges and "/manifests/" not in self.path:
                first, _, last = asked.removeprefix("bytes=").partition("-")
                stop = min(int(last) + 1 if last else len(found), len(found))
                headers["Content-Range"] = f"bytes {first}-{stop - 1}/{len(found)}"
                headers["ETag"] = f'"{hashlib.md5(found).hexdigest()}"'
                status, found = 206, found[int(first) : stop]
            self.send_response(status)
            for key, value in {"Content-Length": str(len(found)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(found)

        do_HEAD = do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Scripted keeps its own."""

    server = _Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server
