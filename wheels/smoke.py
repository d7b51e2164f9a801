"""What an installed wheel has to do, run by itself in a fresh environment: `python smoke.py [CHECK …]`.

Needs trustme for its private authority; `neighbours` needs pycurl and curl_cffi. Each check prints a line, or fails.
"""

from __future__ import annotations

import http.server
import os
import ssl
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

SIZE = 9 << 20
BODY = bytes(range(256)) * (SIZE // 256)
EXITS = int(os.environ.get("SMOKE_EXITS", "20"))
TRANSFERS = 24


class Ranges(http.server.BaseHTTPRequestHandler):
    """GET with Range, kept alive; `/slow` never comes to its end."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = (self.headers.get("Range") or f"bytes=0-{SIZE - 1}").removeprefix("bytes=").partition("-")
        start, stop = int(asked[0]), min(int(asked[2] or SIZE - 1) + 1, SIZE)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{SIZE}")
        self.send_header("Content-Length", str(stop - start))
        self.send_header("ETag", '"1"')
        self.end_headers()
        with_end = stop if "slow" not in self.path else max(start, stop - 1)
        try:
            self.wfile.write(BODY[start:with_end])
            if with_end < stop:
                self.wfile.flush()
                self.rfile.read(1)
        except OSError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        pass


def serve(folder: Path) -> tuple[str, str]:
    """URL, and the file of the authority that its certificate is from."""
    import trustme

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    ca_file = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    server = Quiet(("127.0.0.1", 0), Ranges)
    # The handshake in the connection's own thread, else one slow client holds up all.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"https://localhost:{server.server_port}/x", str(ca_file)


def python(code: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("SSL_CERT_FILE", "CURL_CA_BUNDLE")} | more
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def bundled(url: str, ca_file: str) -> None:
    """--version and doctor name what is built in, and libcurl says the same."""
    from parpull._bundled import BUNDLED
    from parpull._reactor import libcurl_version

    said = libcurl_version()
    for each in BUNDLED.replace("curl", "libcurl").split(", "):
        assert each.replace(" ", "/") in said, (BUNDLED, said)
    line = subprocess.run([sys.executable, "-m", "parpull", "--version"], capture_output=True, text=True, check=True)
    assert BUNDLED in line.stdout
    doctor = subprocess.run([sys.executable, "-m", "parpull", "doctor"], capture_output=True, text=True, check=True)
    assert f"{said} (built in)" in doctor.stdout


def private_authority(url: str, ca_file: str) -> None:
    import parpull

    assert bytes(parpull.fetch(url, ca_file=ca_file, connections=8)) == BODY
    done = python("import sys, parpull; parpull.fetch(sys.argv[1])", url, SSL_CERT_FILE=ca_file)
    assert done.returncode == 0, done.stderr


def refusals(url: str, ca_file: str) -> None:
    """Strangers are not trusted, and a bad SSL_CERT_FILE is told."""
    import parpull

    try:
        parpull.fetch(url)
    except parpull.errors.TLSFailed as error:
        assert error.code == 60 and "ca_file" in (error.hint or ""), error  # noqa: PT017
    else:
        raise AssertionError("a stranger was trusted")
    done = python("import sys, parpull; parpull.fetch(sys.argv[1])", url, SSL_CERT_FILE="/nowhere/ca.pem")
    assert "TLSFailed" in done.stderr, done.stderr
    assert "/nowhere/ca.pem" in done.stderr, done.stderr


NEIGHBOURS = """
import os, sys, threading
url, ca, order, flags, others = sys.argv[1:]
if flags == "global": sys.setdlopenflags(os.RTLD_NOW | os.RTLD_GLOBAL)
if order == "parpull-first": import parpull; parpull.fetch(url, ca_file=ca, connections=2)
if "pycurl" in others: import pycurl
if "curl_cffi" in others: import curl_cffi
import ssl, parpull
import urllib.request
from parpull._reactor import libcurl_version
from parpull._bundled import BUNDLED
context = ssl.create_default_context(cafile=ca)
def ours(): return len(parpull.fetch(url, ca_file=ca, connections=2))
def theirs():
    got, easy = [], pycurl.Curl()
    for option, value in ((pycurl.URL, url), (pycurl.CAINFO, ca), (pycurl.WRITEFUNCTION, got.append)):
        easy.setopt(option, value)
    easy.perform(); easy.close()
    return sum(map(len, got))
def cffis(): return len(curl_cffi.requests.get(url, verify=ca).content)
def pythons(): return len(urllib.request.urlopen(url, context=context).read())
done, wrong = [], []
def work(how):
    try:
        for _ in range(TRANSFERS // 4): done.append((how.__name__, how()))
    except BaseException as error: wrong.append((how.__name__, repr(error)))
hows = [ours, pythons] + [theirs] * ("pycurl" in others) + [cffis] * ("curl_cffi" in others)
threads = [threading.Thread(target=work, args=(how,)) for how in hows for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
assert not wrong, wrong
assert len(done) == len(hows) * TRANSFERS and {n for _, n in done} == {SIZE}, (len(done), set(done))
assert libcurl_version().startswith("lib" + BUNDLED.split(",")[0].replace(" ", "/")), libcurl_version()
""".replace("TRANSFERS", str(TRANSFERS)).replace("SIZE", str(SIZE))


def neighbours(url: str, ca_file: str) -> None:
    """In one process with the libcurl of pycurl and of curl_cffi, and Python's OpenSSL, in threads, both orders."""
    # With RTLD_GLOBAL those two meet each other, whether we are there or not: one at a time.
    for order in ("parpull-first", "others-first"):
        for flags, others in (("local", "pycurl+curl_cffi"), ("global", "pycurl"), ("global", "curl_cffi")):
            done = python(NEIGHBOURS, url, ca_file, order, flags, others)
            assert done.returncode == 0, (order, flags, others, done.returncode, done.stderr)


EXIT = """
import sys, time, parpull
download = parpull.submit(sys.argv[1], ca_file=sys.argv[2], connections=8)
time.sleep(float(sys.argv[3]))
"""


def exits(url: str, ca_file: str) -> None:
    """The interpreter ends in a handshake, in a body, and about its end: never by a signal."""
    for n in range(EXITS):
        done = python(EXIT, url + "slow" * (n % 2), ca_file, str(n // 2 % 40 * 0.002))
        assert done.returncode == 0, (n, done.returncode, done.stderr)


CHECKS = (bundled, private_authority, refusals, neighbours, exits)


def main(names: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        url, ca_file = serve(Path(folder))
        for each in CHECKS:
            if not names or each.__name__ in names:
                each(url, ca_file)
                print(f"ok {each.__name__}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
