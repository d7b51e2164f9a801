"""Resume: what an earlier transfer left is not fetched again, and whatever happened to it
in between, the bytes are right."""

from __future__ import annotations

import concurrent.futures
import errno
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

import parpull
from parpull import errors, journal
from parpull._journal import entry, sum_of
from parpull.download import Download
from parpull.journal import Journal
from tests.leaving import BLOCK, SIZE, journal_of, leave, part_of, rewrite
from tests.running import cli, start, wait_for
from tests.servers.answers import last_modified
from tests.servers.content import content, first_difference, sha256
from tests.servers.origin import Origin

__all__ = ["cli", "start"]
LAST = SIZE - 6 * BLOCK  # bytes of the seventh block


@pytest.fixture
def path(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in" / "object"


@pytest.fixture
def url(origin, name):
    return origin.url(name, size=SIZE)


def fetch(url, path, **options):
    """Fetch; check every byte, and that nothing else is left; what Started told."""
    told = []
    parpull.fetch(url, path, on_event=told.append, **options)
    assert first_difference(path.read_bytes()) is None
    assert path.stat().st_size == SIZE
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    return next(event for event in told if event.kind == "started")


def bytes_of(blocks):
    return sum(LAST if index == 6 else BLOCK for index in blocks)


def names(path):
    return sorted(p.name for p in path.parent.iterdir())


LEFT = ["object.parpull", "object.parpull-part"]

# --- what is fetched, and what is not ---------------------------------------------------


@pytest.mark.parametrize(
    ("blocks", "first"),
    [
        ([], (0, 4 * BLOCK)), ([0], (BLOCK, 5 * BLOCK)), ([0, 1, 2, 3, 4, 5], (6 * BLOCK, SIZE)),
        ([6], (0, 4 * BLOCK)), ([0, 2, 4, 6], (BLOCK, 2 * BLOCK)), ([1, 3, 5], (0, BLOCK)),
        ([0, 1, 3, 4, 5, 6], (2 * BLOCK, 3 * BLOCK)),
    ],
)  # fmt: skip
def test_only_what_is_missing_is_fetched(origin, name, url, path, blocks, first):
    leave(path, url, blocks)
    assert fetch(url, path, connections=1).resumed == bytes_of(blocks)
    log = origin.log(name)
    assert log.asked[0] == first, "the first gap, and no more than it"
    assert sum(stop - start for start, stop in log.asked) == log.sent == SIZE - bytes_of(blocks)


def test_a_size_of_parts_is_no_reason_to_ask_for_more_than_the_gap(origin, name, url, path):
    leave(path, url, [0, 2, 3, 4, 6])
    fetch(url, path, part_size=3 * BLOCK, connections=1)
    assert origin.log(name).asked == [(BLOCK, 2 * BLOCK), (5 * BLOCK, 6 * BLOCK)]


def test_many_connections_share_the_gaps(origin, name, path):
    url = origin.url(name, size=SIZE, pace=4_000_000)
    leave(path, url, [1, 3, 5])
    fetch(url, path, connections=4)
    log = origin.log(name)
    assert log.connections > 1
    for begin, end in log.asked:
        assert not set(range(begin // BLOCK, -(-end // BLOCK))) & {1, 3, 5}, "what was there already"
    assert log.sent == SIZE - bytes_of([1, 3, 5])


def test_of_a_complete_one_nothing_is_kept_on_the_wire(origin, name, url, path):
    leave(path, url, range(7))
    assert fetch(url, path).resumed == SIZE
    log = origin.log(name)
    assert log.asked == [(6 * BLOCK, SIZE)]


def test_what_is_certain_is_not_read(url, path, monkeypatch):
    leave(path, url, [0, 1])
    if journal.boot_id() == "":
        pytest.skip("nothing tells boots apart here")
    monkeypatch.setattr(Journal, "proofs", None)
    assert fetch(url, path).resumed == 2 * BLOCK


def test_after_another_boot_all_is_read_and_proven(url, path):
    leave(path, url, [0, 1, 5])
    with open(part_of(path), "r+b") as part:  # what a power cut may leave: room, and no bytes
        part.seek(BLOCK)
        part.write(bytes(BLOCK))
    rewrite(journal_of(path), boot="long ago")
    assert fetch(url, path).resumed == 2 * BLOCK


def test_progress_tells_what_was_there(origin, name, path):
    url = origin.url(name, size=SIZE, pace=1_000_000)
    leave(path, url, [0, 1, 2])
    with parpull.submit(url, path, connections=1) as download:
        assert download.begun(10)
        now = download.progress()
        assert (now.resumed, now.landed >= 3 * BLOCK, now.front >= 3 * BLOCK) == (3 * BLOCK, True, True)
        with download.reader() as reader:
            assert first_difference(reader.read(2 * BLOCK)) is None
    assert download.cancelled()


def test_a_second_interruption_adds_to_the_first(origin, name, path):
    """Each run fetches something, the last one finishes, and hardly a byte comes twice."""
    url = origin.url(name, size=SIZE, pace=2_000_000)
    before = -1
    for target in (2 * BLOCK, 4 * BLOCK, 5 * BLOCK):
        with parpull.submit(url, path, connections=1) as download:
            wait_for(lambda: download.progress().landed >= target)  # noqa: B023
        assert download.cancelled()
        assert names(path) == LEFT
        assert download.progress().resumed > before
        before = download.progress().resumed
    fetch(url, path, connections=2)


def test_it_asks_for_what_has_not_landed_and_no_more(origin, name, path):
    url = origin.url(name, size=SIZE, pace=1_000_000)
    with parpull.submit(url, path, connections=1) as download:
        wait_for(lambda: download.progress().landed >= 2 * BLOCK)
    landed = download.progress().landed
    earlier = len(origin.log(name))
    assert fetch(url, path, connections=1).resumed == landed // BLOCK * BLOCK
    again = origin.log(name).requests[earlier:]
    assert again[0].asked[0] == landed // BLOCK * BLOCK
    assert sum(r.sent for r in again) == SIZE - landed // BLOCK * BLOCK


# --- what changed in between ------------------------------------------------------------


@pytest.mark.parametrize(
    "was",
    [{"validator": '"old"'}, {"validator": 'W/"0-600011"'}, {"version": 1}, {"size": SIZE + 1}, {"size": 9 * SIZE}],
    ids=["etag", "weak", "version", "size", "shorter"],
)  # fmt: skip
def test_another_version_begins_anew(url, path, was):
    leave(path, url, [0, 2], **was)
    assert fetch(url, path).resumed == 0


def test_an_object_that_is_shorter_now_comes_in_ranges_all_the_same(origin, name, url, path):
    leave(path, url, range(8), size=9 * BLOCK)
    assert fetch(url, path).ranges
    assert origin.log(name).requests[0].status == 416


@pytest.mark.parametrize("version", [0, 1])
def test_a_date_will_do_and_has_to_be_the_same(origin, name, path, version):
    url = origin.url(name, size=SIZE, etag="none")
    leave(path, url, [0, 2], validator=last_modified(version))
    assert fetch(url, path).resumed == (0 if version else 2 * BLOCK)


def test_without_a_validator_nothing_is_believed_and_nothing_kept(origin, name, path):
    url = origin.url(name, size=SIZE, etag="none", last_modified="no", pace=2_000_000)
    leave(path, url, [0, 2])
    with parpull.submit(url, path, connections=2) as download:
        wait_for(lambda: download.progress().landed >= BLOCK)
        assert download.progress().resumed == 0
    assert names(path) == []
    leave(path, url, [0, 2])
    assert fetch(url, path).resumed == 0


@pytest.mark.parametrize("manner", [{"ranges": "no"}, {"ranges": "no", "length": "chunked"}])
def test_a_server_that_gives_no_ranges_any_more(origin, name, path, manner):
    url = origin.url(name, size=SIZE, **manner)
    leave(path, url, [0, 2])
    assert fetch(url, path).resumed == 0


def edit(path):
    with open(part_of(path), "r+b") as part:
        part.seek(BLOCK + 5)
        part.write(b"mine")


def replace(path):
    part_of(path).unlink()
    part_of(path).write_bytes(os.urandom(SIZE))


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (lambda path: os.truncate(part_of(path), 2 * BLOCK + 1), [0, 1]),
        (lambda path: os.truncate(part_of(path), 0), []),
        (lambda path: os.truncate(part_of(path), SIZE + BLOCK), [0, 1, 2]),
        (lambda path: part_of(path).unlink(), []),
        (lambda path: part_of(path).write_bytes(b"short"), []),
        (edit, [0, 2]),
        (replace, []),
    ],
    ids=["shorter", "empty", "longer", "gone", "other", "edited", "replaced"],
)
def test_a_part_that_somebody_touched(url, path, change, kept):
    leave(path, url, [0, 1, 2])
    before = time.time_ns() - 5 * journal.TOUCHED
    os.utime(journal_of(path), ns=(before, before))  # it was a while ago
    change(path)
    assert fetch(url, path).resumed == len(kept) * BLOCK


def test_copied_elsewhere_with_its_journal_it_is_proven(url, path, tmp_path):
    leave(path, url, [0, 3])
    (tmp_path / "there").mkdir()
    there = tmp_path / "there" / "another"
    shutil.copy(part_of(path), part_of(there))
    shutil.copy(journal_of(path), journal_of(there))
    assert fetch(url, there).resumed == 2 * BLOCK
    assert names(path) == LEFT


@pytest.mark.parametrize("raw", [b"", b"parpull", bytes(4096), b"parpull journal\n" + os.urandom(5000), None, 2])
def test_a_journal_that_says_nothing(url, path, raw, monkeypatch):
    leave(path, url, [0, 1])
    if raw is None:
        journal_of(path).unlink()
    elif raw == 2:
        with monkeypatch.context() as patched:
            rewrite(journal_of(path), before=lambda: patched.setattr(journal, "VERSION", raw))
    elif raw == b"parpull":
        os.truncate(journal_of(path), 4000)
    else:
        journal_of(path).write_bytes(raw)
    assert fetch(url, path).resumed == 0


def test_of_another_url_it_says_nothing(origin, name, url, path):
    leave(path, origin.url(name + "-other", size=SIZE), [0, 1])
    assert fetch(url, path).resumed == 0
    path.unlink()
    leave(path, url, [0, 1])
    assert fetch(url + "#elsewhere", path).resumed == 2 * BLOCK, "what no server sees does not matter"


def test_a_file_of_the_user_that_has_the_name_of_a_journal(origin, name, url, path):
    journal_of(path).write_bytes(b"my notes\n")
    parpull.fetch(url, path)
    requests = len(origin.log(name))
    parpull.fetch(url, path)
    assert len(origin.log(name)) == requests + 1, "it was up to date"
    assert first_difference(path.read_bytes()) is None
    assert (names(path), journal_of(path).read_bytes()) == (["object", "object.parpull"], b"my notes\n")


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_a_part_that_is_no_file_is_refused(url, path, tmp_path, kind):
    treasure = tmp_path / "treasure"
    treasure.write_bytes(b"precious")
    leave(path, url, [0])
    part_of(path).unlink()
    if kind == "link":
        part_of(path).symlink_to(treasure)
    elif kind == "folder":
        part_of(path).mkdir()
    else:
        os.mkfifo(part_of(path))
    with pytest.raises(errors.SinkError):
        parpull.fetch(url, path)
    assert treasure.read_bytes() == b"precious"
    assert names(path) == LEFT


def test_a_part_that_is_somebody_elses_file_as_well_is_not_written_through(url, path, tmp_path):
    treasure = tmp_path / "treasure"
    treasure.write_bytes(b"precious")
    os.link(treasure, part_of(path))
    fetch(url, path)
    assert treasure.read_bytes() == b"precious"


def test_killed_between_name_and_tidying_up(origin, name, url, path):
    """The file has two names then: the next run leaves one, and the file is as it was."""
    fetch(url, path)
    for options in ({}, {"overwrite": True}):
        os.link(path, part_of(path))
        inode = path.stat().st_ino
        parpull.fetch(url, path, **options)
        assert first_difference(path.read_bytes()) is None
        assert names(path) == ["object"]
        assert (path.stat().st_ino == inode) == (not options), "replaced in one step, not rewritten in place"


def test_a_target_that_exists_is_told_and_all_is_left(url, path):
    path.write_bytes(b"mine")
    leave(path, url, [0])
    with pytest.raises(errors.TargetExists):
        parpull.fetch(url, path)
    assert path.read_bytes() == b"mine"
    assert names(path) == ["object", *LEFT]
    assert fetch(url, path, overwrite=True).resumed == BLOCK


def test_no_room_on_the_way_keeps_what_there_is(url, path):
    leave(path, url, [0, 1])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4 * BLOCK + 100, limits[1]))
    try:
        with pytest.raises(errors.SinkError) as caught:
            parpull.fetch(url, path, connections=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno in (errno.EFBIG, errno.ENOSPC)
    assert names(path) == LEFT
    assert fetch(url, path).resumed >= 2 * BLOCK


def test_a_journal_that_cannot_be_renewed_costs_nothing_but_itself(url, path):
    leave(path, url, [0, 1])
    rewrite(journal_of(path), boot="long ago")
    (path.parent / "object.parpull~").mkdir()
    parpull.fetch(url, path)
    assert first_difference(path.read_bytes()) is None
    assert names(path) == ["object", "object.parpull~"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_for_reading_only(url, path):
    leave(path, url, [0, 1])
    path.parent.chmod(0o555)
    try:
        with pytest.raises(errors.SinkError):
            parpull.fetch(url, path)
    finally:
        path.parent.chmod(0o755)
    assert fetch(url, path).resumed == 2 * BLOCK


def test_another_process_is_at_it(url, path):
    leave(path, url, [0, 1])
    code = "import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.flock(f, 2); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, part_of(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        holder.stdout.readline()
        with pytest.raises(errors.InUse) as caught:
            parpull.fetch(url, path)
        assert str(holder.pid) in (caught.value.owner or str(holder.pid))
        assert names(path) == LEFT
        holder.stdin.close()
    assert fetch(url, path).resumed == 2 * BLOCK


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_leaves_it_to_the_parent(origin, name, path):
    url = origin.url(name, size=SIZE, pace=2_000_000)
    leave(path, url, [0, 1])
    download = parpull.submit(url, path, connections=2)
    wait_for(lambda: download.progress().landed >= 3 * BLOCK)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            download.result(5)
        except errors.TransferError:
            code = 0 if names(path) == LEFT else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    download.result(20)
    assert first_difference(path.read_bytes()) is None
    assert names(path) == ["object"]


# --- ends --------------------------------------------------------------------------------


def test_a_network_that_is_gone_and_comes_back(path, name):
    with Origin() as first:
        url = first.url(name, size=SIZE, pace=2_000_000)
        download = parpull.submit(url, path, connections=2, retries=1, retry_for=2)
        wait_for(lambda: download.progress().landed >= 2 * BLOCK)
    with pytest.raises(errors.TransferError):
        download.result(30)
    assert names(path) == LEFT
    landed = download.progress().landed
    with Origin(port=first.port) as second:
        assert fetch(url, path, connections=2).resumed >= landed - 2 * BLOCK
        assert second.log(name).sent <= SIZE - landed + 2 * BLOCK


@pytest.mark.parametrize(("scenario", "error"), [("not-found", errors.NotFound), ("forbidden", errors.AccessDenied)])
def test_an_address_that_is_refused_now_leaves_all_as_it_was(origin, name, path, scenario, error):
    url = origin.url(name, size=SIZE, scenario=scenario)
    leave(path, url, [0, 1])
    with pytest.raises(error):
        parpull.fetch(url, path)
    assert names(path) == LEFT


@pytest.mark.parametrize(
    ("scenario", "error"),
    [("not-found-later", errors.NotFound), ("object-changes", errors.ObjectChanged)],
)
def test_what_is_over_for_good_is_discarded(origin, name, path, scenario, error):
    url = origin.url(name, size=64 * BLOCK, scenario=scenario)
    with pytest.raises(error):
        parpull.fetch(url, path, connections=4, part_size=BLOCK, retries=1)
    assert names(path) == []


@pytest.mark.parametrize("options", [{"resume": False}, {"resume": False, "overwrite": True}])
def test_resume_can_be_had_without(url, path, options):
    leave(path, url, [0, 1])
    assert fetch(url, path, **options).resumed == 0


def test_without_resume_nothing_is_kept(origin, name, path):
    url = origin.url(name, size=SIZE, pace=2_000_000)
    with parpull.submit(url, path, connections=2, resume=False) as download:
        wait_for(lambda: download.progress().landed >= 2 * BLOCK)
    assert download.cancelled()
    assert names(path) == []


def test_a_part_of_an_object_is_not_resumed_nor_mistaken(origin, name, url, path):
    leave(path, url, [0, 1])
    parpull.fetch(url, path, start=5, stop=3 * BLOCK)
    assert path.read_bytes() == content(5, 3 * BLOCK - 5)
    assert names(path) == ["object"]


# --- proof over old and new bytes --------------------------------------------------------


def spoil(path):
    """A wrong byte that the journal vouches for: only a digest of the whole can tell."""
    with open(part_of(path), "r+b") as part:
        part.seek(5)
        part.write(b"\0" if content(5, 1) != b"\0" else b"\1")
    data = part_of(path).read_bytes()[:BLOCK]
    with open(journal_of(path), "r+b") as file:
        file.seek(journal.PAGE)
        file.write(entry(0, sum_of(data)))


@pytest.mark.parametrize("stated", [False, True])
def test_a_checksum_is_of_old_and_new_bytes(origin, name, path, stated):
    url = origin.url(name, size=SIZE, digest="right" if stated else "none")
    options = {} if stated else {"checksum": "sha256=" + sha256(SIZE)}
    leave(path, url, [0, 1, 4])
    assert fetch(url, path, **options).resumed == 3 * BLOCK
    path.unlink()
    leave(path, url, [0, 1, 4])
    spoil(path)
    with pytest.raises(errors.ChecksumMismatch):
        parpull.fetch(url, path, **options)
    assert names(path) == [], "what is proven wrong is not gone on from"
    assert fetch(url, path, **options).resumed == 0


def test_a_wrong_stated_digest_keeps_nothing(origin, name, path):
    url = origin.url(name, size=SIZE, digest="wrong")
    leave(path, url, [0, 1])
    with pytest.raises(errors.ChecksumMismatch):
        parpull.fetch(url, path)
    assert names(path) == []
    leave(path, url, [0, 1])
    assert fetch(url, path, verify="none").resumed == 2 * BLOCK


# --- while it is proven -------------------------------------------------------------------


def test_cancelled_while_it_is_proven_it_is_as_it_was(url, path, monkeypatch):
    leave(path, url, [0, 1, 5])
    rewrite(journal_of(path), boot="long ago")
    before = journal_of(path).read_bytes()
    begun = threading.Event()

    def slowly(self, part_fd, wanted):
        begun.set()
        wait_for(lambda: not wanted())
        return bytearray(7)

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "proofs", slowly)
        download = parpull.submit(url, path)
        assert begun.wait(10)
        download.cancel()
        with pytest.raises(concurrent.futures.CancelledError):
            download.result(10)
    assert journal_of(path).read_bytes() == before
    assert fetch(url, path).resumed == 3 * BLOCK


def test_other_transfers_go_on_while_one_is_proven(origin, name, url, path, monkeypatch):
    leave(path, url, [0, 1])
    rewrite(journal_of(path), boot="long ago")
    begun, go = threading.Event(), threading.Event()
    proofs = Journal.proofs

    def slowly(self, part_fd, wanted):
        begun.set()
        assert go.wait(10)
        return proofs(self, part_fd, wanted)

    monkeypatch.setattr(Journal, "proofs", slowly)
    with parpull.Client() as client:
        slow = client.submit(url, path)
        assert begun.wait(10)
        client.submit(origin.url(name + "-2", size=SIZE)).result(10).close()
        assert not slow.done()
        go.set()
        slow.result(10)
    assert first_difference(path.read_bytes()) is None


def test_cancelled_before_the_proof_began_nothing_stays_open(url, path, monkeypatch):
    leave(path, url, [0, 1])
    land = Download._land_slowly

    def late(self, *args):
        wait_for(lambda: self._ended)
        time.sleep(0.05)
        land(self, *args)

    monkeypatch.setattr(Download, "_land_slowly", late)
    download = parpull.submit(url, path)
    wait_for(lambda: download.progress().requests)
    time.sleep(0.1)
    download.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        download.result(10)
    time.sleep(0.3)
    still = download._sink._fd
    download._sink.abandon()
    assert still == -1
    assert names(path) == LEFT


# --- the command line ----------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_says_how_to_go_on_and_does(origin, name, path, start, cli, number):
    url = origin.url(name, size=SIZE, pace=2_000_000)
    process = start(url, "-o", path, "-x", "2")
    wait_for(lambda: journal_of(path).exists() and journal_of(path).stat().st_size > journal.PAGE)
    process.send_signal(number)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert b"run it again to go on" in told
    assert names(path) == LEFT
    code, _, told = cli("-c", url, "-o", path)
    assert code == 0
    assert re.search(r"\d[.\d]* MiB were there", told), told
    assert first_difference(path.read_bytes()) is None
    assert names(path) == ["object"]
