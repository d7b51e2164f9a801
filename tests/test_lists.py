"""Lists: what stands in them becomes what is fetched, nothing leads out of the folder,
and a broken one is told with its line before anything is fetched."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import re
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parpull.cli.lists import Entry, find_sum, parse_list, parse_sums, text_of
from parpull.cli.outcome import UsageError
from tests.running import cli, environment, start
from tests.servers import content

__all__ = ["cli", "start"]

SIZE = 100_000
SUM = "a" * 64


def entries(text):
    return [(e.url, e.out, e.directory, e.checksum, e.headers) for e in parse_list(text, "list")]


def test_a_list():
    text = (
        "# models\r\n\r\nhttps://h/a\thttps://mirror/a\r\n  out=x/y.bin\r\n\tdir = sub dir \r\n"
        f"  checksum=sha-256={SUM}\r\n  header=X-A: b\r\n   header=X-B: c=d\r\n   # no option\r\nhttps://h/b\r\n"
    )
    assert entries(text) == [
        ("https://h/a", "x/y.bin", "sub dir", f"sha-256={SUM}", ("X-A: b", "X-B: c=d")),
        ("https://h/b", None, None, None, ()),
    ]
    first, second = parse_list(text, "list")
    assert (first.where, first.mirrors, second.mirrors) == ("list:3", ("https://mirror/a",), ())
    assert [e.url for e in parse_list(text_of(b"\xef\xbb\xbfhttp://h/x", "list"), "list")] == ["http://h/x"]


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        ("  out=x\nhttp://h/a", 1, "below"),
        ("\nhttp://h/a\n  nonsense=5", 3, "out, dir"),
        ("http://h/a\n  chekcsum=5", 2, "checksum"),
        ("http://h/a\n  out", 2, "out=VALUE"),
        ("http://h/a\n  out=", 2, "out=VALUE"),
        ("http://h/a\n  checksum=sha-256=12", 2, "64"),
        ("http://h/a\n  checksum=crc=12", 2, "sha256"),
        ("http://h/a\n  out=a\n  out=b", 3, None),
        ("http://h/a\n  out=../a", 2, "dir="),
        ("http://h/a\n  out=a/../../b", 2, "dir="),
        ("http://h/a\n  out=/etc/passwd", 2, "dir="),
        ("http://h/a\n  out=..", 2, "dir="),
        ("http://h/a\n  out=a/", 2, "dir="),
        ("http://h/a\n  out=a//b", 2, "dir="),
        ("http://h/a\n  out=a\0b", 2, None),
        ("http://h/a\n  out=a\x1bb", 2, None),
        ("http://h/a\n  dir=a\0b", 2, None),
        ("http://h/\x1b[2J", 1, None),
        ("http://h/a\nout=x", 2, "indented"),
        ("root:x:0:0", 1, "indented"),
    ],
)
def test_a_broken_list_names_its_line(text, line, hint):
    with pytest.raises(UsageError, match=f"list:{line}: ") as caught:
        parse_list(text, "list")
    if hint:
        assert hint in caught.value.hint


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "   \n\t\n"])
def test_a_list_of_nothing(text):
    with pytest.raises(UsageError, match="names no address"):
        parse_list(text, "list")


def test_no_text():
    with pytest.raises(UsageError, match="list:3: "):
        text_of(b"http://h/a\n\n\xff\xfe", "list")


@given(
    st.text(alphabet=st.sampled_from("ab/. \t\n\r=#\0\x1b\\:") | st.characters(), max_size=80).map(
        lambda text: "h://h" + text.replace("a", "\n out=")
    )
    | st.text(max_size=80)
)
def test_any_text_is_a_list_or_a_usage_error(text):
    try:
        parsed = parse_list(text, "list")
    except UsageError as error:
        assert str(error).startswith("list")
        return
    assert parsed
    for entry in parsed:
        assert isinstance(entry, Entry)
        assert entry.url.strip() == entry.url
        assert "://" in entry.url
        if entry.out is not None:
            home = "/home/x/dir"
            assert os.path.normpath(os.path.join(home, entry.out)).startswith(home + "/")
            assert entry.out.isprintable()


# --- checksums --------------------------------------------------------------------------


def test_sums():
    text = (
        f"# by hand\n-----BEGIN PGP SIGNED MESSAGE-----\n{SUM}  a.bin\n{SUM.upper()} *sub/b.bin\r\n"
        f"\\{SUM}  with\\nline\\\\slash\nSHA1 (c (d).bin) = {'1' * 40}\nSHA512 (c (d).bin) = {'2' * 128}\n"
        f"SHA2-256 (e) = {SUM}\nSHA256 (short) = 12\n"
    )
    sums = parse_sums(text, "SHA256SUMS")
    assert sums == {
        "a.bin": {"sha256": SUM},
        "sub/b.bin": {"sha256": SUM},
        "with\nline\\slash": {"sha256": SUM},
        "c (d).bin": {"sha1": "1" * 40, "sha512": "2" * 128},
    }
    assert find_sum(sums, "a.bin") == f"sha256={SUM}"
    assert find_sum(sums, "no", "b.bin") == f"sha256={SUM}"
    assert find_sum(sums, "c (d).bin") == "sha512=" + "2" * 128
    assert find_sum(sums, "no") is None


@pytest.mark.parametrize(
    ("name", "length", "algorithm"),
    [("x", 32, "md5"), ("x", 40, "sha1"), ("x", 56, "sha224"), ("x", 64, "sha256"), ("x", 96, "sha384"),
     ("x", 128, "sha512"), ("SHA512SUMS", 128, "sha512"), ("B2SUMS", 128, "blake2b"), ("d/b2sums.txt", 128, "blake2b"),
     ("B3SUMS", 64, "blake3"), ("B3SUMS", 40, "sha1"), ("b2/SHA512SUMS", 128, "sha512")],
)  # fmt: skip
def test_the_algorithm_is_known_by_its_length(name, length, algorithm):
    assert parse_sums("a" * length + "  x", name) == {"x": {algorithm: "a" * length}}


def test_ambiguous_sums():
    assert find_sum(parse_sums(f"{SUM}  a/x\n{SUM}  b/x\n", "s"), "x") == f"sha256={SUM}"
    assert find_sum(parse_sums(f"{SUM}  a/x\n{'b' * 64}  b/x\n", "s"), "x") is None
    with pytest.raises(UsageError, match="s:2: a second sha256"):
        parse_sums(f"{SUM}  x\n{'b' * 64}  x\n", "s")


@pytest.mark.parametrize("text", ["", "nonsense\n", "<html>404</html>", "12  x", "z" * 64 + "  x"])
def test_no_sums(text):
    with pytest.raises(UsageError, match="holds no checksums"):
        parse_sums(text, "s")


@given(st.text(max_size=200) | st.from_regex(r"(\\?[0-9a-f]{32,40}  .{1,10}\n?){1,3}", fullmatch=True))
def test_any_text_has_sums_or_a_usage_error(text):
    try:
        sums = parse_sums(text, "s")
    except UsageError:
        return
    assert all(re.fullmatch("[0-9a-f]+", digest) for known in sums.values() for digest in known.values())


@given(
    st.binary(max_size=100), st.text(st.characters(exclude_characters="\n\r\\", exclude_categories=["Cs"]), min_size=1)
)
def test_what_sha256sum_writes_is_read(data, name):
    digest = hashlib.sha256(data).hexdigest()
    for line in (f"{digest}  {name}", f"{digest} *{name}", f"SHA256 ({name}) = {digest}"):
        assert parse_sums(line + "\n", "s") == {name: {"sha256": digest}}


# --- through the command line -------------------------------------------------------------


def test_a_list_is_fetched(cli, origin, name, tmp_path):
    one, two, three = (origin.url(f"{name}/{i}", size=SIZE) for i in range(3))
    (tmp_path / "list").write_text(
        f"{one}\n  out=a/b.bin\n  checksum=sha-256={content.sha256(SIZE)}\n  header=X-Mine: yes\n"
        f"{two}\thttp://127.0.0.1:9/mirror\n dir=sub\n"
    )
    code, out, err = cli("-d", "all", "-H", "X-All: yes", "--input-file", "list", three)
    assert (code, out) == (0, b""), err
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == [
        "all/2", "all/a/b.bin", "all/sub/1", "list",
    ]  # fmt: skip
    assert "b.bin" in err
    assert "sha256 ok" in err
    log = origin.log(name)
    assert len(log) == len(log.with_header("x-all"))
    mine = log.with_header("x-mine")
    assert len(mine)
    assert all("/0" in record.path for record in mine)


def test_a_list_from_standard_input(cli, origin, name, tmp_path):
    code, _, err = cli("-i", "-", given=origin.url(f"{name}/x", size=SIZE).encode())
    assert code == 0, err
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{url}\n  out=../x\n", "list:2: "),
        ("{url}\nnonsense\n", "list:2: "),
        ("{url}\nftp://h/x\n", "list:2: "),
        ("{url}\n  header=Range: bytes=1-2\n", "list:1: header="),
        ("{url}\n  header=geheim\n", "list:1: header="),
        ("{url}\n  dir=../..\n", "list:1: dir leads out"),
        ("{url}\n  dir=/tmp\n", "list:1: dir leads out"),
        ("{url}\n{url}\n", "would both become"),
        ("{url}\nhttps://user:geheim@h:port/x\n", "list:2: "),
    ],
)
def test_nothing_of_a_broken_list_is_fetched(cli, origin, name, tmp_path, text, told):
    (tmp_path / "list").write_text(text.format(url=origin.url(f"{name}/x", size=SIZE)))
    code, _, err = cli("-i", "list")
    assert code == 2
    assert told in err
    assert "geheim" not in err
    assert len(origin.log(name)) == 0
    assert os.listdir(tmp_path) == ["list"]


def test_minus_d_opens_the_folder_for_a_list(cli, origin, name, tmp_path):
    (tmp_path / "list").write_text(f"{origin.url(f'{name}/x', size=SIZE)}\n  dir={tmp_path}/there\n")
    assert cli("-i", "list", "-d", "/")[0] == 0
    assert (tmp_path / "there" / "x").exists()


def test_a_file_of_checksums(cli, origin, name, tmp_path):
    urls = [origin.url(f"{name}/{i}", size=SIZE + i) for i in range(3)]
    lines = [f"{content.sha256(SIZE)}  0", f"SHA256 (1) = {content.sha256(SIZE + 1)}", f"{'0' * 64}  ./2"]
    (tmp_path / "SHA256SUMS").write_text("\n".join(lines))
    code, _, err = cli("--checksum-file", "SHA256SUMS", *urls[:2])
    assert code == 0
    assert err.count("sha256 ok") == 2
    assert cli("--checksum-file", "SHA256SUMS", urls[2])[0] == 5
    assert not (tmp_path / "2").exists()
    code, _, err = cli("--checksum-file", "SHA256SUMS", "--overwrite", urls[0], "-o", "other")
    assert code == 0  # by the name of its URL
    asked = len(origin.log(name))
    code, _, err = cli("--checksum-file", "SHA256SUMS", origin.url(f"{name}/9", size=SIZE))
    assert code == 2
    assert "no usable checksum of 9" in err
    assert "hint: it has those of: ./2, 0, 1" in err
    assert len(origin.log(name)) == asked


def test_no_checksums_from_a_url(cli, origin, name, tmp_path):
    url = origin.url(f"{name}/x", size=SIZE)
    code, _, err = cli("--checksum-file", origin.url(f"{name}/sums", size=1000), url)  # bytes, no text
    assert code == 2
    assert re.search(r"/sums.*(not UTF-8|holds no checksums)", err)
    assert "size=" not in err
    code, _, err = cli("--checksum-file", origin.url(f"{name}/sums", size=17 << 20), url)
    assert (code, "larger than 16 MiB" in err) == (2, True)
    assert cli("--checksum-file", origin.url(f"{name}/sums", size=10, scenario="not-found"), url)[0] == 3
    assert {record.path.rpartition("/")[2] for record in origin.log(name).requests} == {"sums"}
    assert os.listdir(tmp_path) == []


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_checksums_from_a_url(cli, origin, name, tmp_path):
    served = tmp_path / "served"
    served.mkdir()
    (served / "SHA256SUMS").write_text(f"{content.sha256(SIZE)}  x\n{'0' * 64}  y\n")
    handler = functools.partial(Quiet, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            sums = f"http://127.0.0.1:{server.server_port}/SHA256SUMS"
            assert cli("--checksum-file", sums, origin.url(f"{name}/x", size=SIZE))[0] == 0
            assert cli("--checksum-file", sums, origin.url(f"{name}/y", size=SIZE))[0] == 5
        finally:
            server.shutdown()
            thread.join()
    assert sorted(os.listdir(tmp_path)) == ["served", "x"]


def test_secrets_stay_with_the_objects_server(cli, origin, name):
    """A list of checksums on another origin gets neither headers nor a password."""
    sums = origin.url(f"{name}/sums", size=1000).replace(origin.host, "localhost")
    assert cli("-H", "X-Key: 1", "-u", "a:b", "--checksum-file", sums, origin.url(f"{name}/x", size=SIZE))[0] == 2
    log = origin.log(name)
    assert len(log)
    assert not log.with_header("x-key")
    assert not log.with_header("authorization")


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("..", "index"), ("%2e%2e%2fx", ".._x".lstrip(".")), ("%2fetc%2fpasswd", "_etc_passwd"), ("a%00b", "a_b"),
        ("a%1b%5b2J", "a_[2J"), ("%5c..%5cx", "_.._x"), (".hidden", "hidden"), ("x" * 300, "x" * 240), ("", None),
    ],
)  # fmt: skip
def test_names_from_urls_lead_nowhere(cli, origin, name, tmp_path, path, file):
    folder = tmp_path / "in"
    folder.mkdir()
    url = origin.url(f"{name}/PLACE", size=10).replace("PLACE", path)
    code, _, err = cli("-d", "in", url)
    assert code == 0, err
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
    (found,) = os.listdir(folder)
    assert "/" not in found
    if file is not None:
        assert found == file


def test_devices_are_no_place_for_ranges(cli, origin, name):
    code, _, err = cli("-o", "/dev/null", origin.url(name, size=10))
    assert code == 6
    assert "hint: " in err


def test_environment_is_clean():
    assert environment()["PARPULL_CONFIG"] == ""
