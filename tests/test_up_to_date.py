"""A file that is there already: one request tells whether it is what is asked for."""

from __future__ import annotations

import hashlib
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import parpull
from parpull import record
from parpull.errors import NotFound, SizeMismatch, TargetExists
from tests.servers import content

SIZE = 3 << 20


class Handler(BaseHTTPRequestHandler):
    """An object with validators; honours ranges, and If-None-Match as RFC 9110 has it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        server.seen.append(dict(self.headers.items()))
        if self.path.startswith("/moved"):
            return self.answer(302, b"", Location=f"/there?{len(server.seen)}")
        if server.gone:
            return self.answer(404, b"")
        etag = server.about.get("ETag")
        if etag and self.headers.get("If-None-Match", "").removeprefix("W/") == etag.removeprefix("W/"):
            return self.answer(304, None, **server.about)
        first, _, last = self.headers.get("Range", "bytes=0-").partition("=")[2].partition("-")
        if not server.ranges or not server.data:
            return self.answer(200, server.data, **server.about)
        a, b = int(first), min(int(last or len(server.data) - 1) + 1, len(server.data))
        about = server.about | {"Content-Range": f"bytes {a}-{b - 1}/{len(server.data)}"}
        return self.answer(206, server.data[a:b], **about)

    def answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if body is not None:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body or b"")
            self.server.sent.append(len(body or b""))
        except OSError:
            self.server.sent.append(0)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.seen, server.sent, server.gone, server.ranges = [], [], False, True
        server.data, server.about = os.urandom(SIZE), {"ETag": '"one"'}
        server.url = f"http://127.0.0.1:{server.server_port}/object"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def path(tmp_path):
    probe = tmp_path / "probe"
    probe.touch()
    try:
        os.setxattr(probe, record.ATTRIBUTE, b"x")
    except (AttributeError, OSError):
        pytest.skip("no extended attributes here")
    probe.unlink()
    return tmp_path / "object"


def again(server, path, **options):
    """Fetch once more: the requests that it took, and the bytes of their bodies."""
    seen, sent = len(server.seen), len(server.sent)
    with parpull.fetch(server.url, path, **options) as blob:
        assert bytes(blob) == path.read_bytes()
        assert (blob.path, blob.size) == (str(path), path.stat().st_size)
    return server.seen[seen:], sum(server.sent[sent:])


@pytest.mark.parametrize(
    ("about", "sends"),
    [({"ETag": '"one"'}, '"one"'), ({"ETag": 'W/"one"'}, 'W/"one"'), ({"ETag": "plain"}, None),
     ({"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}, None)],
)  # fmt: skip
@pytest.mark.parametrize("size", [0, 1, SIZE])
@pytest.mark.parametrize("ranges", [True, False])
def test_one_request(server, path, about, sends, size, ranges):
    server.about, server.data, server.ranges = about, server.data[:size], ranges
    parpull.fetch(server.url, path).close()
    before = path.stat()
    requests, _ = again(server, path)
    assert [request.get("If-None-Match") for request in requests] == [sends]
    assert path.stat() == before or path.stat().st_mtime_ns == before.st_mtime_ns
    assert os.listdir(path.parent) == ["object"]


def test_no_body(server, path):
    parpull.fetch(server.url, path).close()
    assert again(server, path)[1] == 0
    server.about = {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
    parpull.fetch(server.url, path, overwrite=True).close()
    assert again(server, path)[1] == 1


def test_a_server_that_ignores_conditions(origin, name, path):
    url = origin.url(name, size=SIZE)
    parpull.fetch(url, path).close()
    before = len(origin.log(name))
    with parpull.submit(url, path) as download:
        assert content.first_difference(download.result()) is None
        download.result().close()
        assert download.up_to_date
        assert download.progress().landed == SIZE
    log = origin.log(name)
    assert len(log) == before + 1
    assert log.asked[-1] == (0, 1)


def test_another_version(server, path):
    parpull.fetch(server.url, path).close()
    old = server.data
    for about, data in (({"ETag": '"two"'}, old), ({"ETag": '"two"'}, old + b"!"), ({}, old), ({"ETag": "*"}, old)):
        server.about, server.data = about, data
        before = len(server.seen)
        with pytest.raises(TargetExists, match="another version"):
            parpull.fetch(server.url, path)
        assert len(server.seen) == before + 1
    assert path.read_bytes() == old
    with parpull.fetch(server.url, path, overwrite=True) as blob:
        assert bytes(blob) == server.data


def test_an_older_object_in_its_place(server, path):
    """A date is compared, not asked for: it is not newer, and yet another one."""
    server.about = {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
    parpull.fetch(server.url, path).close()
    server.about = {"Last-Modified": "Tue, 20 Oct 2015 07:28:00 GMT"}
    with pytest.raises(TargetExists):
        parpull.fetch(server.url, path)


def test_overwrite_fetches(server, path):
    parpull.fetch(server.url, path).close()
    requests, sent = again(server, path, overwrite=True)
    assert sent >= SIZE
    assert not any("If-None-Match" in request for request in requests)


def test_a_part_is_not_the_whole(server, path):
    parpull.fetch(server.url, path, stop=100).close()
    for options in ({}, {"stop": 100}):
        with pytest.raises(TargetExists):
            parpull.fetch(server.url, path, **options)
    path.unlink()
    parpull.fetch(server.url, path).close()
    with pytest.raises(TargetExists):
        parpull.fetch(server.url, path, stop=100)


def test_another_address(server, path):
    parpull.fetch(server.url, path).close()
    server.url += "2"
    before = len(server.seen)
    with pytest.raises(TargetExists):
        parpull.fetch(server.url, path)
    assert len(server.seen) == before


def test_through_a_redirect(server, path):
    """To another signed address each time."""
    server.url = server.url.replace("/object", "/moved")
    parpull.fetch(server.url, path).close()
    requests, sent = again(server, path)
    assert [request.get("If-None-Match") for request in requests] == ['"one"'] * 2
    assert sent == 0


def test_the_users_own_condition(server, path):
    parpull.fetch(server.url, path).close()
    server.about, server.data = {"ETag": '"two"'}, b"new"
    with pytest.raises(parpull.ParpullError):
        parpull.fetch(server.url, path, headers={"If-None-Match": '"two"'})


def test_checksums(server, path):
    right = "sha256=" + hashlib.sha256(server.data).hexdigest()
    parpull.fetch(server.url, path).close()
    with pytest.raises(TargetExists, match="not proven"):
        parpull.fetch(server.url, path, checksum=right)
    parpull.fetch(server.url, path, checksum=right, overwrite=True).close()
    assert len(again(server, path, checksum=right)[0]) == 1
    assert len(again(server, path)[0]) == 1
    server.about, server.data = {"ETag": '"two"'}, b"new"
    assert len(again(server, path, checksum=right)[0]) == 1
    with pytest.raises(TargetExists):
        parpull.fetch(server.url, path, checksum="sha256=" + "0" * 64)


def test_other_ends(server, path):
    parpull.fetch(server.url, path).close()
    with pytest.raises(SizeMismatch):
        parpull.fetch(server.url, path, size=1)
    server.gone = True
    with pytest.raises(NotFound):
        parpull.fetch(server.url, path)
    assert path.read_bytes() == server.data


def test_a_reader_of_what_is_there(server, path):
    parpull.fetch(server.url, path).close()
    with parpull.submit(server.url, path) as download, download.reader() as reader:
        assert reader.read() == server.data
    assert len(server.seen) == 2


def test_events(server, path):
    told = []
    parpull.fetch(server.url, path).close()
    parpull.fetch(server.url, path, on_event=told.append).close()
    assert [event.kind for event in told] == ["finished"]
    assert (told[0].size, told[0].requests, told[0].error) == (SIZE, 1, None)
