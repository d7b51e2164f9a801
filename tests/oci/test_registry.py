"""Registries: a reference to an image, proven, from a real registry and from a scripted one."""

from __future__ import annotations

import concurrent.futures
import hashlib
import threading

import pytest

import parpull
from parpull import errors
from parpull.oci import BadManifest, Reference, UnknownPlatform
from parpull.oci.digest import Digest
from parpull.oci.errors import RateLimited
from parpull.oci.hosts import Files
from parpull.oci.keychain import Credentials, Keychain
from parpull.oci.manifest import Descriptor
from parpull.oci.platforms import Platform
from parpull.oci.registry import Registry
from parpull.sources import Source
from tests.servers.fixtures import real
from tests.servers.registries import CONFIG, INDEX, LAYER, MANIFEST, DockerRegistry, Scripted, Store, basic, digest_of

AMD64 = Platform("linux", "amd64")
NOBODY = Keychain(environ={"HOME": "/nonexistent"})
ME = Keychain(Credentials("me", "geheim"))
LAYER_BYTES = bytes(range(256)) * 4096 * 8  # 8 MiB
PART = 1 << 20


def registry(keychain=NOBODY, **more):
    return Registry(keychain=keychain, plain_http=True, **more)


def reference(server, name="team/app:1"):
    return Reference.parse(f"{server.host}/{name}")


@pytest.fixture
def scripted():
    with Scripted() as server:
        server.store.image([LAYER_BYTES, b"small"], "1")
        yield server


def small_store():
    store = Store()
    store.index({"linux/amd64": [b"a" * 1000, b"b"], "linux/arm64": [b"arm"], "linux/arm/v7": [b"v7"]}, "1", "latest")
    store.image([b"alone"], "amd", platform="linux/amd64")
    return store


# --- a real one ---------------------------------------------------------------------------


@pytest.mark.parametrize("users", [False, True])
def test_docker_registry(tmp_path, users):
    store = small_store()
    with real(lambda: DockerRegistry(tmp_path, users=users)) as server:
        store.push(server.base, "team/app", basic() if users else None)
        with registry(ME if users else NOBODY) as asked, parpull.Client() as client:
            image = asked.resolve(reference(server), AMD64)
            assert [each.descriptor.media_type for each in image.documents] == [INDEX, MANIFEST]
            assert str(image.reference.digest) == digest_of(store.manifests["1"][1])
            assert image.config is not None
            assert len(image.config.diff_ids) == 2
            for layer in image.manifest.layers:
                blob = asked.blob(image.reference, layer)
                with client.fetch(blob, **blob.fields) as got:
                    assert bytes(got) == store.blobs[str(layer.digest)]
            arm = asked.resolve(image.reference, Platform("linux", "arm", "v8"))
            assert arm.config is not None
            assert arm.config.platform.variant == "v7"
            head = asked.head(reference(server))
            assert (str(head.digest), head.size) == (digest_of(store.manifests["1"][1]), len(store.manifests["1"][1]))
            assert sorted(asked.tags(reference(server))) == ["1", "amd", "latest"]
            with pytest.raises(errors.NotFound, match="MANIFEST_UNKNOWN"):
                asked.resolve(reference(server, "team/app:none"), AMD64)
        pulls = [line for line in server.seen() if line.endswith(("200", "206")) and line.startswith("GET")]
        assert len([line for line in pulls if "/manifests/" in line]) == 4
        if users:
            with registry() as asked, pytest.raises(errors.AccessDenied) as caught:
                asked.resolve(reference(server), AMD64)
            assert "docker login" in caught.value.hint
            wrong = Keychain(Credentials("me", "falsch"))
            with registry(wrong) as asked, pytest.raises(errors.AccessDenied) as caught:
                asked.resolve(reference(server), AMD64)
            assert "falsch" not in f"{caught.value!r} {caught.value.hint}"


def test_tls_by_a_ca_of_hosts_toml_and_plain_http_only_when_told(tmp_path):
    store = small_store()
    with real(lambda: DockerRegistry(tmp_path / "data", tls=True)) as server:
        folder = tmp_path / "certs.d" / server.host.replace(":", "_")
        folder = folder.with_name(folder.name + "_")
        folder.mkdir(parents=True)
        where = f'server = "https://{server.host}"\n'
        (folder / "hosts.toml").write_text(f'{where}ca = "{server.ca_file}"\n')
        files = Files([str(tmp_path / "certs.d")])
        with Scripted(store) as plain, Registry(keychain=NOBODY) as asked:
            with pytest.raises(errors.TLSFailed) as caught:
                asked.resolve(reference(plain), AMD64)
            assert "plain http" in str(caught.value.hint)
            assert not plain.log
        with Registry(keychain=NOBODY, files=files) as asked, pytest.raises(errors.NotFound):
            asked.resolve(reference(server), AMD64)  # TLS holds; nothing was pushed
        with Registry(keychain=NOBODY) as asked, pytest.raises(errors.TLSFailed):
            asked.resolve(reference(server), AMD64)
        (folder / "hosts.toml").write_text(f"{where}skip_verify = true\n")
        with Registry(keychain=NOBODY, files=files) as asked, pytest.raises(errors.BadOption, match="skip_verify"):
            asked.resolve(reference(server), AMD64)


# --- documents ----------------------------------------------------------------------------


def test_an_unknown_platform_lists_what_there_is(scripted):
    scripted.store.index({"linux/amd64": [b"a"], "linux/arm64": [b"b"]}, "many")
    with registry() as asked:
        with pytest.raises(UnknownPlatform) as caught:
            asked.resolve(reference(scripted, "team/app:many"), Platform("linux", "s390x"))
        assert caught.value.available == ("linux/amd64", "linux/arm64")
        with pytest.raises(UnknownPlatform) as caught:
            asked.resolve(reference(scripted), Platform("linux", "s390x"))
        assert caught.value.available == ("linux/amd64",)


def test_configs_tell_the_platform_where_the_index_does_not(scripted):
    made = [scripted.store.image([each.encode()], platform=each) for each in ("linux/s390x", "linux/amd64")]
    scripted.store.document({"schemaVersion": 2, "mediaType": INDEX, "manifests": made}, "unsaid")
    with registry() as asked:
        image = asked.resolve(reference(scripted, "team/app:unsaid"), AMD64)
        assert image.config is not None
        assert image.config.platform == AMD64
        with pytest.raises(UnknownPlatform):
            asked.resolve(reference(scripted, "team/app:unsaid"), Platform("linux", "arm64"))


def test_an_artifact_has_no_config_and_is_not_chosen_by_platform(scripted):
    store = scripted.store
    config, layer = store.blob(b"{}", "application/vnd.oci.empty.v1+json"), store.blob(b"x", "text/plain")
    about = {"artifactType": "application/x", "config": config, "layers": [layer]}
    store.document({"schemaVersion": 2, "mediaType": MANIFEST, **about}, "art")
    with registry() as asked:
        image = asked.resolve(reference(scripted, "team/app:art"), AMD64)
    assert (image.config, image.manifest.is_image) == (None, False)
    assert len(scripted.log) == 1


def test_inline_data_is_not_asked_for(scripted):
    import base64

    store = scripted.store
    body = store.blobs[next(digest for digest, each in store.blobs.items() if b"rootfs" in each)]
    config = store.blob(body, CONFIG, data=base64.b64encode(body).decode())
    layers = [store.blob(LAYER_BYTES), store.blob(b"small")]
    store.document({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}, "inline")
    with registry() as asked:
        image = asked.resolve(reference(scripted, "team/app:inline"), AMD64)
    assert image.config_body == body
    assert [each.path for each in scripted.log] == ["/v2/team/app/manifests/inline"]


@pytest.mark.parametrize("what", ["manifest", "config"])
def test_bytes_that_are_not_what_their_digest_says(scripted, what):
    store = scripted.store
    with registry() as asked:
        image = asked.resolve(reference(scripted), AMD64)
        if what == "manifest":
            kind, body = store.manifests[str(image.reference.digest)]
            store.manifests[str(image.reference.digest)] = kind, body.replace(b"layers", b"Layers")
        else:
            digest = str(image.manifest.config.digest)
            store.blobs[digest] = store.blobs[digest].replace(b"amd64", b"arm64")
        with pytest.raises(errors.ChecksumMismatch):
            asked.resolve(image.reference, AMD64)


def test_what_is_too_long_is_not_read(scripted):
    store = scripted.store
    store.manifests["huge"] = MANIFEST, b" " * ((4 << 20) + 1)
    big = store.blob(b"x", CONFIG) | {"size": 9 << 20}
    about = {"schemaVersion": 2, "mediaType": MANIFEST, "config": big, "layers": []}
    store.document(about, "config")
    with registry() as asked:
        for tag in ("huge", "config"):
            with pytest.raises(BadManifest, match=r"more than 4,194,304|at most 8,388,608"):
                asked.resolve(reference(scripted, f"team/app:{tag}"), AMD64)


def test_schema_1_is_refused_by_name(scripted):
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    scripted.store.manifests["old"] = kind, b'{"schemaVersion": 1, "name": "x"}'
    with registry() as asked, pytest.raises(BadManifest, match="Docker's first format"):
        asked.resolve(reference(scripted, "team/app:old"), AMD64)


def test_who_is_nobody_shows_nothing(scripted):
    with registry() as asked:
        asked.document(reference(scripted))
    (seen,) = scripted.log
    assert (seen.method, seen.authorization) == ("GET", None)


def test_the_list_of_tags_goes_on(scripted):
    for tag in "abcde":
        scripted.store.image([b"x"], tag)
    with registry() as asked:
        assert [tag for tag in asked.tags(reference(scripted)) if "sha" not in tag] == ["1", *"abcde"]
    assert len(scripted.asked("/v2/team/app/tags")) == 3


@pytest.mark.parametrize("wants", ['Basic realm="x"', 'Bearer realm="http://127.0.0.1:{port}/token"'])
def test_who_we_are_sent_on_to_gets_no_credentials_by_asking(scripted, wants):
    scripted.basic, scripted.signed = True, 9
    scripted.away = wants.format(port=scripted.port)
    with registry(ME) as asked, pytest.raises(errors.AccessDenied):
        asked.resolve(reference(scripted), AMD64)
    assert {each.authorization for each in scripted.asked("/storage")} == {None}
    assert not scripted.asked("/token")


def test_digests_of_another_kind(scripted):
    kind, body = scripted.store.manifests["1"]
    name = f"sha512:{hashlib.sha512(body).hexdigest()}"
    scripted.store.manifests[name] = kind, body
    with registry() as asked:
        pinned = reference(scripted, f"team/app@{name}")
        assert str(asked.head(pinned).digest) == name
        assert str(asked.resolve(pinned, AMD64).documents[0].descriptor.digest) == name


def test_an_index_without_platforms_is_not_searched_for_ever(scripted):
    made = [scripted.store.image([str(n).encode()], platform="linux/s390x") for n in range(80)]
    scripted.store.document({"schemaVersion": 2, "mediaType": INDEX, "manifests": made}, "wide")
    with registry() as asked, pytest.raises(BadManifest, match="among 64"):
        asked.resolve(reference(scripted, "team/app:wide"), AMD64)
    assert len(scripted.asked("/v2/team/app/manifests")) == 65


def test_an_empty_blob_and_one_of_another_digest(scripted):
    store = scripted.store
    store.image([b""], "e")
    long = f"sha512:{hashlib.sha512(b'long').hexdigest()}"
    store.blobs[long] = b"long"
    with registry() as asked, parpull.Client() as client:
        image = asked.resolve(reference(scripted, "team/app:e"), AMD64)
        empty = asked.blob(image.reference, image.manifest.layers[0])
        with client.fetch(empty, **empty.fields) as blob:
            assert blob.size == 0
        other = asked.blob(image.reference, Descriptor(LAYER, Digest.parse(long), 4))
        with client.fetch(other, **other.fields) as blob:
            assert bytes(blob) == b"long"


# --- limits -------------------------------------------------------------------------------


def test_what_the_registry_counts_is_told(scripted):
    scripted.extra = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "76;w=21600"}
    with registry() as asked:
        quota = asked.resolve(reference(scripted), AMD64).quota
    assert quota is not None
    assert (quota.limit, quota.remaining, quota.window) == (100, 76, 21600)


def test_rate_limited_tells_when_to_retry(scripted):
    scripted.status["/manifests/1"] = 429
    scripted.extra = {"Retry-After": "3600", "ratelimit-remaining": "0;w=21600"}
    with registry() as asked, pytest.raises(RateLimited, match="429 SCRIPTED") as caught:
        asked.resolve(reference(scripted), AMD64)
    assert (caught.value.retry_after, caught.value.quota.remaining) == (3600, 0)
    assert "in 60 min" in str(caught.value.hint)
    assert len(scripted.log) == 1


def test_a_registry_in_passing_trouble_is_asked_again(scripted):
    scripted.status["/manifests/1"] = 503
    with registry() as asked, pytest.raises(errors.BadStatus, match="503"):
        asked.resolve(reference(scripted), AMD64)
    assert len(scripted.log) == 3


# --- blobs --------------------------------------------------------------------------------


def fetch_layers(asked, image, connections=4):
    """All layers through one Client at once; they are proven by their digests."""
    with parpull.Client(connections=connections, part_size=PART) as client:
        sources = [asked.blob(image.reference, layer) for layer in image.manifest.layers]
        downloads = [client.submit(each, **each.fields) for each in sources]
        for download, layer in zip(downloads, image.manifest.layers, strict=True):
            with download.result(30) as blob:
                assert hashlib.sha256(blob).hexdigest() == layer.digest.hex


def test_one_token_for_many_blobs_and_it_stays_at_home(scripted):
    scripted.tokens, scripted.signed = True, 100
    scripted.store.image([LAYER_BYTES, *(bytes([n]) * 70_000 for n in range(7))], "many")
    with registry() as asked:
        image = asked.resolve(reference(scripted, "team/app:many"), AMD64)
        fetch_layers(asked, image)
    assert len(scripted.asked("/token")) == 1
    assert {each.authorization for each in scripted.asked("/storage")} == {None}
    blobs = [
        each
        for each in scripted.asked("/v2/team/app/blobs/")
        if not each.path.endswith(image.manifest.config.digest.hex)
    ]
    assert len(blobs) == 8  # each is resolved once, whatever its ranges
    assert len(scripted.asked("/storage")) >= 15
    assert {each.status for each in blobs} == {307}


def test_a_signed_address_runs_out_and_is_resolved_anew_by_the_same_token(scripted):
    scripted.tokens, scripted.signed = True, 5
    with registry() as asked:
        image = asked.resolve(reference(scripted), AMD64)
        fetch_layers(asked, image)
    assert len(scripted.asked("/token")) == 1
    digest = digest_of(LAYER_BYTES)
    resolved = scripted.asked(f"/v2/team/app/blobs/{digest}")
    assert 2 <= len(resolved) <= 4
    assert any(each.status == 403 for each in scripted.asked("/storage"))
    assert {each.authorization for each in scripted.asked("/storage")} == {None}


def test_a_token_that_is_refused_amid_a_pull_is_replaced(scripted):
    scripted.tokens = True
    with registry() as asked:
        image = asked.resolve(reference(scripted), AMD64)
        scripted.uses = 5  # ranges of the big layer, and then it is refused
        fetch_layers(asked, image)
    tokens = len(scripted.asked("/token"))
    assert 2 <= tokens <= 4
    shown = {each.authorization for each in scripted.asked("/v2/team/app/blobs/") if each.status == 200}
    assert len(shown) == tokens


def test_a_token_that_ran_out_before_the_first_request(scripted):
    scripted.tokens = True
    with registry() as asked:
        image = asked.resolve(reference(scripted), AMD64)
        scripted.revoke()
        fetch_layers(asked, image)
    assert len(scripted.asked("/token")) == 2  # the first, and one for both layers
    assert [each.status for each in scripted.asked("/v2/team/app/blobs/")].count(401) <= 2


def test_a_token_that_is_refused_for_good(scripted):
    scripted.tokens = True
    with registry() as asked, parpull.Client() as client:
        image = asked.resolve(reference(scripted), AMD64)
        scripted.uses = 0
        scripted.status[image.manifest.layers[0].digest.hex] = 401
        blob = asked.blob(image.reference, image.manifest.layers[0])
        with pytest.raises(errors.AccessDenied):
            client.fetch(blob, **blob.fields)
    assert len(scripted.asked("/token")) == 2


def test_a_token_server_that_fails_amid_a_pull_ends_it(scripted):
    scripted.tokens = True
    with registry() as asked, parpull.Client() as client:
        image = asked.resolve(reference(scripted), AMD64)
        scripted.revoke()
        scripted.get = 403
        blob = asked.blob(image.reference, image.manifest.layers[0])
        with pytest.raises(errors.AccessDenied, match="gives no token"):
            client.fetch(blob, **blob.fields)


def test_a_blob_alone_learns_what_the_registry_wants(scripted):
    scripted.tokens = True
    digest = digest_of(LAYER_BYTES)
    with registry() as asked, parpull.Client() as client:
        blob = asked.blob(reference(scripted), Descriptor(LAYER, Digest.parse(digest), len(LAYER_BYTES)))
        client.fetch(blob, **blob.fields).close()
    assert [each.path for each in scripted.log[:2]] == ["/v2/", "/token"]
    assert {each.status for each in scripted.asked("/v2/team/app/blobs/")} <= {200, 206}


class Held(Source):
    """A blob whose second request is made only when it is let go."""

    def __init__(self, blob):
        self.blob, self.url = blob, blob.url
        self.asked, self.go = threading.Event(), threading.Event()

    def resolve(self, options, refused=None):
        if refused is not None:
            self.asked.set()
            assert self.go.wait(20)
        return self.blob.resolve(options, refused)


@pytest.mark.parametrize("cancelled", [False, True])
def test_nobody_waits_for_anothers_token(scripted, cancelled):
    """The notifier is not held, a cancel neither."""
    scripted.tokens = True
    with registry() as asked, parpull.Client() as client:
        image = asked.resolve(reference(scripted), AMD64)
        scripted.revoke()
        large, small = (asked.blob(image.reference, layer) for layer in image.manifest.layers)
        held = Held(large)
        download = client.submit(held, **large.fields)
        assert held.asked.wait(20)
        client.fetch(small, **small.fields).close()
        if cancelled:
            assert download.cancel()
            with pytest.raises(concurrent.futures.CancelledError):
                download.result(20)
        held.go.set()
        if not cancelled:
            with download.result(20) as blob:
                assert bytes(blob) == LAYER_BYTES


# --- mirrors ------------------------------------------------------------------------------


@pytest.fixture
def mirrored(scripted, tmp_path):
    with Scripted(scripted.store) as mirror:
        folder = tmp_path / f"127.0.0.1_{scripted.port}_"
        folder.mkdir()
        (folder / "hosts.toml").write_text(f'server = "http://{scripted.host}"\n[host."http://{mirror.host}"]\n')
        yield mirror, Files([str(tmp_path)])


def test_a_mirror_is_asked_first_and_told_for_whom(scripted, mirrored):
    mirror, files = mirrored
    scripted.basic = True
    with Registry(keychain=ME, files=files) as asked:
        image = asked.resolve(reference(scripted), AMD64)
        fetch_layers(asked, image)
    assert not scripted.log
    assert {tuple(each.query["ns"]) for each in mirror.log} == {(scripted.host,)}
    assert {each.authorization for each in mirror.log} == {None}


@pytest.mark.parametrize("fault", ["missing", "denied", "trouble", "wrong", "gone"])
def test_a_mirror_that_fails_is_passed_over(scripted, mirrored, fault):
    mirror, files = mirrored
    digest = scripted.store.image([LAYER_BYTES, b"small"], "1")["digest"]
    warned = []
    scripted.basic = True
    if fault == "wrong":
        mirror.store = Store(manifests={digest: (MANIFEST, b'{"schemaVersion": 2}')})
    elif fault == "gone":
        mirror.stop()
    elif fault == "denied":
        mirror.basic = True  # it asks for what is the registry's
    else:
        mirror.status["/" + digest] = {"missing": 404, "trouble": 503}[fault]
    with Registry(keychain=ME, files=files, warn=warned.append) as asked:
        image = asked.document(reference(scripted, f"team/app@{digest}"))
    assert (image.host, image.descriptor.size) == (scripted.host, len(scripted.store.manifests["1"][1]))
    assert any(mirror.host in message for message in warned)
    assert {each.authorization for each in mirror.log} <= {None}


def test_a_blob_that_the_mirror_has_not_comes_from_the_registry(scripted, mirrored):
    mirror, files = mirrored
    with Registry(keychain=NOBODY, files=files) as asked:
        image = asked.resolve(reference(scripted), AMD64)
        mirror.store = Store(manifests=scripted.store.manifests)
        fetch_layers(asked, image)
    assert {each.path.split("/")[-2] for each in scripted.log} == {"blobs"}


def test_the_error_is_the_registrys_where_nobody_has_it(scripted, mirrored):
    mirror, files = mirrored
    mirror.status["/manifests/9"] = 401
    with Registry(keychain=NOBODY, files=files) as asked, pytest.raises(errors.NotFound):
        asked.resolve(reference(scripted, "team/app:9"), AMD64)


def test_insecure_is_tls_and_then_plain(scripted, tmp_path):
    conf = tmp_path / "registries.conf"
    conf.write_text(f'[[registry]]\nlocation = "{scripted.host}"\ninsecure = true\n')
    with Registry(keychain=NOBODY, files=Files(registries=[str(conf)])) as asked:
        assert asked.resolve(reference(scripted), AMD64).documents[0].host == scripted.host
        with pytest.raises(errors.NotFound):
            asked.resolve(reference(scripted, "team/app:9"), AMD64)


def test_small_requests_go_through_the_proxy_of_the_options_only(scripted, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    options = parpull.Options(proxy=f"http://me:geheim@{scripted.host}", noproxy="127.0.0.0/8")
    with registry(options=options) as asked:
        asked.document(reference(scripted))  # without
        asked.document(Reference.parse("registry.invalid/team/app:1"))  # the scripted one answers as a proxy
    assert [each.path for each in scripted.log] == ["/v2/team/app/manifests/1"] * 2
