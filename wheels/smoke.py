"""What an installed wheel has to do, run by itself in a fresh environment: `python smoke.py [CHECK …]`.

Needs trustme for its private authority; `neighbours` needs pycurl and curl_cffi. Each check prints a line, or fails.

A Python that can't serve (another processor's, one without ssl) is only the client:

    python smoke.py serve FOLDER     elsewhere; prints SMOKE_URL, SMOKE_PLAIN and SMOKE_CA, and serves until it is ended
    SMOKE_PYTHON                     the words that start the tested Python, where its path is not enough
"""

from __future__ import annotations

import http.server
import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

SIZE = 9 << 20
BODY = bytes(range(256)) * (SIZE // 256)
EXITS = int(os.environ.get("SMOKE_EXITS", "20"))
TRANSFERS = 24
PYTHON = shlex.split(os.environ.get("SMOKE_PYTHON", "")) or [sys.executable]


@dataclass(frozen=True)
class Origin:
    """Over TLS and plain; ca_file: of the authority that its certificate is from."""

    url: str
    plain: str
    ca_file: str


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


def serve(folder: Path) -> Origin:
    """An origin in threads of its own."""
    import ssl

    import trustme

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    ca_file = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    plain, secure = Quiet(("127.0.0.1", 0), Ranges), Quiet(("127.0.0.1", 0), Ranges)
    # The handshake in the connection's own thread, else one slow client holds up all.
    secure.socket = context.wrap_socket(secure.socket, server_side=True, do_handshake_on_connect=False)
    for server in (plain, secure):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    return Origin(f"https://localhost:{secure.server_port}/x", f"http://localhost:{plain.server_port}/x", str(ca_file))


def outside() -> Origin | None:
    """One that was started elsewhere, by `serve`."""
    found = [os.environ.get(name, "") for name in ("SMOKE_URL", "SMOKE_PLAIN", "SMOKE_CA")]
    return Origin(*found) if all(found) else None


def python(code: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("SSL_CERT_FILE", "CURL_CA_BUNDLE")} | more
    command = [*PYTHON, "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def bundled(origin: Origin) -> None:
    """--version and doctor name what is built in, and libcurl says the same."""
    from parpull._bundled import BUNDLED
    from parpull._reactor import libcurl_version

    said = libcurl_version()
    for each in BUNDLED.replace("curl", "libcurl").split(", "):
        assert each.replace(" ", "/") in said, (BUNDLED, said)
    line = subprocess.run([*PYTHON, "-m", "parpull", "--version"], capture_output=True, text=True, check=True)
    assert BUNDLED in line.stdout
    doctor = subprocess.run([*PYTHON, "-m", "parpull", "doctor"], capture_output=True, text=True, check=True)
    assert f"{said} (built in)" in doctor.stdout


def private_authority(origin: Origin) -> None:
    import parpull

    assert bytes(parpull.fetch(origin.url, ca_file=origin.ca_file, connections=8)) == BODY
    done = python("import sys, parpull; parpull.fetch(sys.argv[1])", origin.url, SSL_CERT_FILE=origin.ca_file)
    assert done.returncode == 0, done.stderr


def plain(origin: Origin) -> None:
    import parpull

    assert bytes(parpull.fetch(origin.plain, connections=8)) == BODY


def checksums(origin: Origin) -> None:
    """The processor's instruction is used where there is one, and agrees with the tables."""
    from parpull._crc import Crc32c
    from parpull._journal import sum_of

    assert Crc32c().hard == has_crc_instruction()
    for start in range(8):
        data = BODY[start:100_003]
        hard, soft = Crc32c(), Crc32c(soft=True)
        for each in (hard, soft):
            each.update(data)
        assert hard.digest() == soft.digest()
        assert sum_of(data) == sum_of(data, soft=True)
    known = Crc32c()
    known.update(b"123456789")
    assert known.hexdigest() == "e3069283"


def has_crc_instruction() -> bool:
    """As the kernel tells; every x86-64 and Arm server processor of today has it."""
    if os.uname().machine != "aarch64" or sys.platform != "linux":
        return True
    import ctypes

    getauxval = ctypes.CDLL(None).getauxval
    getauxval.argtypes, getauxval.restype = [ctypes.c_ulong], ctypes.c_ulong
    return bool(getauxval(16) >> 7 & 1)  # AT_HWCAP, HWCAP_CRC32


def threads(origin: Origin) -> None:
    """Several at once, of one Client and of the default one; a free-threaded Python stays so."""
    import parpull

    got: list[bytes] = []
    with parpull.Client() as client:

        def work(how: str) -> None:
            for _ in range(4):
                if how == "shared":
                    got.append(bytes(client.fetch(origin.url, ca_file=origin.ca_file, connections=2)))
                else:
                    got.append(bytes(parpull.fetch(origin.plain, connections=2)))

        every = [threading.Thread(target=work, args=(how,)) for how in ("shared", "own") * 4]
        for thread in every:
            thread.start()
        for thread in every:
            thread.join()
    assert len(got) == 32
    assert all(each == BODY for each in got)
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        assert not sys._is_gil_enabled(), "an extension has switched the GIL on"  # type: ignore[attr-defined,unused-ignore]


def refusals(origin: Origin) -> None:
    """Strangers are not trusted, and a bad SSL_CERT_FILE is told."""
    import parpull

    try:
        parpull.fetch(origin.url)
    except parpull.errors.TLSFailed as error:
        assert error.code == 60 and "ca_file" in (error.hint or ""), error  # noqa: PT017
    else:
        raise AssertionError("a stranger was trusted")
    done = python("import sys, parpull; parpull.fetch(sys.argv[1])", origin.url, SSL_CERT_FILE="/nowhere/ca.pem")
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


def neighbours(origin: Origin) -> None:
    """In one process with the libcurl of pycurl and of curl_cffi, and Python's OpenSSL, in threads, both orders."""
    # With RTLD_GLOBAL those two meet each other, whether we are there or not: one at a time.
    for order in ("parpull-first", "others-first"):
        for flags, others in (("local", "pycurl+curl_cffi"), ("global", "pycurl"), ("global", "curl_cffi")):
            done = python(NEIGHBOURS, origin.url, origin.ca_file, order, flags, others)
            assert done.returncode == 0, (order, flags, others, done.returncode, done.stderr)


EXIT = """
import sys, time, parpull
download = parpull.submit(sys.argv[1], ca_file=sys.argv[2], connections=8)
time.sleep(float(sys.argv[3]))
"""


def exits(origin: Origin) -> None:
    """The interpreter ends in a handshake, in a body, and about its end: never by a signal."""
    for n in range(EXITS):
        done = python(EXIT, origin.url + "slow" * (n % 2), origin.ca_file, str(n // 2 % 40 * 0.002))
        assert done.returncode == 0, (n, done.returncode, done.stderr)


CHECKS = (bundled, checksums, plain, private_authority, refusals, threads, neighbours, exits)


def main(names: list[str]) -> int:
    if names[:1] == ["serve"]:
        origin = serve(Path(names[1]))
        print(f"export SMOKE_URL={origin.url} SMOKE_PLAIN={origin.plain} SMOKE_CA={origin.ca_file}", flush=True)
        threading.Event().wait()
    unknown = set(names) - {each.__name__ for each in CHECKS}
    if unknown:
        sys.exit(f"there is no check {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as folder:
        origin = outside() or serve(Path(folder))
        for each in CHECKS:
            if not names or each.__name__ in names:
                each(origin)
                print(f"ok {each.__name__}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
