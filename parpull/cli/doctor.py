"""The verb `doctor`: the facts that a bug report needs, and what is wrong with them.

Each fact is asked for by itself and none may fail the others: where the system won't
say, that is the fact. Nothing is fetched, nothing is kept on the disk, and what may be
a secret is not shown: the output is made to be pasted in public. Where a fact is a
problem, a line under it says what it costs and what to do.
"""

from __future__ import annotations

import os
import sys

from .outcome import OK, write_out
from .parser import add_telling
from .text import clean, human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from .parser import Arguments, Parser

    Told = tuple[str, str | None]  # value, problem

__all__ = ["Fact", "add", "facts", "file_system_name", "lines", "run"]

SUMMARY = "tell the facts for a bug report, and what is wrong here"
USAGE = "parpull doctor [options]"
LEAST_LIBCURL = (7, 85)
OLD = 2 * 365  # days of a CA bundle
LEAST_FILES = 1024
LEAST_ROOM = 1 << 30
TLS = frozenset(
    "openssl libressl boringssl aws-lc gnutls mbedtls wolfssl rustls-ffi schannel securetransport bearssl".split()
)
PACKAGES = (
    "shtab", "numpy", "ml_dtypes", "torch", "fsspec", "pycurl", "certifi", "blake3", "xxhash", "google-crc32c",
)  # fmt: skip
PROXIES = ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
# f_type of statfs(2), see linux/magic.h.
FILE_SYSTEMS = (
    (0xEF53, "ext4"), (0x58465342, "xfs"), (0x9123683E, "btrfs"), (0x2FC12FC1, "zfs"), (0x01021994, "tmpfs"),
    (0x858458F6, "ramfs"), (0x958458F6, "hugetlbfs"), (0x794C7630, "overlayfs"), (0xF2F52010, "f2fs"),
    (0xCA451A4E, "bcachefs"), (0x6969, "nfs"), (0xFE534D42, "smb2"), (0xFF534D42, "cifs"), (0x0BD00BD0, "lustre"),
    (0x00C36400, "ceph"), (0x47504653, "gpfs"), (0x5346414F, "afs"), (0x01021997, "9p"), (0x65735546, "fuse"),
    (0x4D44, "vfat"), (0x2011BAB0, "exfat"), (0x7366746E, "ntfs"), (0x73717368, "squashfs"), (0x9660, "iso9660"),
)  # fmt: skip


class Fact:
    """One thing about this installation or machine. problem: what it costs and what to
    do, None where all is well."""

    def __init__(self, name: str, value: str, problem: str | None = None) -> None:
        self.name = name
        self.value = value
        self.problem = problem


def add(parser: Parser) -> None:
    """The arguments of `doctor`."""
    add_telling(parser, quiet=False, verbose=False, json="one fact a line, as JSON")


def run(args: Arguments) -> int:
    """Tell; 0 whatever the facts are."""
    told = facts()
    if args.json:
        import json

        text = [json.dumps({"name": fact.name, "value": fact.value, "problem": fact.problem}) for fact in told]
    else:
        text = lines(told)
    write_out("".join(line + "\n" for line in text).encode("utf-8", "backslashreplace"))
    return OK


def lines(told: Sequence[Fact]) -> list[str]:
    """The facts as text, each problem under its own."""
    width = max((len(fact.name) for fact in told), default=0)
    out = []
    for fact in told:
        out.append(f"{fact.name:{width}}  {clean(fact.value)}")
        if fact.problem is not None:
            out.append(f"{'':{width}}  ! {clean(fact.problem)}")
    return out


def facts(environ: Mapping[str, str] | None = None, *, root: str = "/") -> list[Fact]:
    """All facts, in an order of their own. `environ`, `root`: where a test keeps the
    variables, and the system's files."""
    environ = os.environ if environ is None else environ
    asked: list[tuple[str, Callable[[], Told]]] = [
        ("parpull", _parpull),
        ("build", _build),
        ("python", _python),
        ("system", _system),
        ("cpus", lambda: _cpus(root)),
        ("libcurl", _libcurl),
        ("authorities", lambda: _authorities(environ)),
        ("huge pages", lambda: _huge_pages(root)),
        ("memory", lambda: _memory(root)),
        ("/dev/shm", lambda: _shared_memory(root)),  # noqa: S108
        ("open files", _open_files),
        ("folder here", lambda: _folder(os.getcwd(), "give another one with -d DIR")),
        ("TMPDIR", lambda: _folder(environ.get("TMPDIR") or "/tmp", "the variable TMPDIR names another one")),  # noqa: S108
        ("proxies", lambda: _proxies(environ)),
    ]
    out = [_ask(name, ask) for name, ask in asked]
    out += _variables(environ)
    out += [_ask(name, ask) for name, ask in (
        ("config", lambda: _config(environ)),
        ("terminal", lambda: _terminal(environ)),
        ("packages", _packages),
    )]  # fmt: skip
    return out


def _ask(name: str, ask: Callable[[], Told]) -> Fact:
    try:
        return Fact(name, *ask())
    except Exception as error:
        return Fact(name, f"unknown ({type(error).__name__}: {error})")


# --- parpull itself -----------------------------------------------------------------


def _parpull() -> Told:
    import parpull

    return f"{parpull.__version__} in {_short(os.path.dirname(parpull.__file__))}", None


def _build() -> Told:
    from .. import _reactor

    path = _reactor.__file__ or "?"
    kind = "abi3" if ".abi3." in os.path.basename(path) else "for this Python only"
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if not os.path.samefile(here, os.path.dirname(path)):
        kind += f", editable (core in {_short(os.path.dirname(path))})"
    return kind, None


def _python() -> Told:
    import platform

    text = f"{platform.python_version()} {platform.python_implementation()}, {_short(sys.executable)}"
    free = getattr(sys, "_is_gil_enabled", None)
    return text + (", without GIL" if free is not None and not free() else ""), None


def _libcurl() -> Told:
    from .._reactor import libcurl_version

    line = libcurl_version()
    least = ".".join(map(str, LEAST_LIBCURL))
    value = f"{line} ({'built in' if _is_built_in() else f'needs {least}'})"
    numbers = line.partition("/")[2].partition(" ")[0].split(".")
    if tuple(int(n) for n in numbers[:2]) < LEAST_LIBCURL:
        return value, f"too old: fetches may fail or hang; install libcurl {least} or newer"
    if not any(part.lower().partition("/")[0] in TLS for part in line.replace("(", "").replace(")", "").split()):
        return value, "it has no TLS: https:// can't be fetched; install a libcurl that has"
    return value, None


def _is_built_in() -> bool:
    """Whether the wheel brought its own libcurl."""
    try:
        from .. import _bundled  # noqa: F401
    except ImportError:
        return False
    return True


def _authorities(environ: Mapping[str, str]) -> Told:
    import time

    from ..settings import ca_file

    path = ca_file(_chosen_authorities(environ))
    if path is None:
        return "none", "https:// can't be fetched: install ca-certificates, or name a file with --cacert"
    value = path
    try:
        with open(path, "rb") as file:
            days = (time.time() - os.fstat(file.fileno()).st_mtime) / 86400
            value += f", {days:.0f} days old"
            count = sum(line.startswith(b"-----BEGIN ") for line in file)
    except OSError as error:
        return value, f"it can't be read ({error.strerror}), so https:// can't be fetched: name another with --cacert"
    value += f", {count} certificates"
    if not count:
        return value, "there is none in it, so https:// can't be fetched: name another file with --cacert"
    if days > OLD:
        return value, "servers with newer authorities will be refused: update ca-certificates"
    return value, None


def _chosen_authorities(environ: Mapping[str, str]) -> str | None:
    from ..options import Options

    try:
        return Options.from_env(None if environ is os.environ else environ).ca_file
    except ValueError:  # facts of their own tell what is wrong
        return None


def _packages() -> Told:
    from importlib.metadata import PackageNotFoundError, version

    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    value = ", ".join(found) or "none"
    if missing:
        value += f"; not there: {', '.join(missing)}"
    needed = [name for name in missing if name == "shtab"]
    return value, f"parpull needs them: pip install {' '.join(needed)}" if needed else None


# --- the machine --------------------------------------------------------------------


def _system() -> Told:
    import platform

    about = os.uname()
    value = f"{about.sysname} {about.release} {about.machine}"
    libc = " ".join(platform.libc_ver()).strip()
    value += f", {libc}" if libc else ""
    try:
        value += f", {platform.freedesktop_os_release()['PRETTY_NAME']}"
    except (OSError, KeyError):
        pass
    return value, None


def _cpus(root: str) -> Told:
    value = f"{os.cpu_count()}"
    if hasattr(os, "sched_getaffinity"):
        value += f", {len(os.sched_getaffinity(0))} for this process"
    try:
        quota, period = _read(root, "sys/fs/cgroup/cpu.max").split()
        if quota == "max":
            return value, None
        share = int(quota) / int(period)
    except (OSError, ValueError):
        return value, None
    value += f", {share:.2g} by its control group"
    return value, "less than one CPU: TLS and checksums will be the limit" if share < 1 else None


def _huge_pages(root: str) -> Told:
    text = _read(root, "sys/kernel/mm/transparent_hugepage/enabled")
    chosen = text.partition("[")[2].partition("]")[0] or text
    if chosen == "never":
        return chosen, (
            "objects in memory cost up to three times the CPU: "
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"
        )
    return chosen, None


def _memory(root: str) -> Told:
    from ..memory import available_memory

    room = available_memory(proc=os.path.join(root, "proc"), cgroup=os.path.join(root, "sys/fs/cgroup"))
    if room is None:
        return "unknown", "an object in memory is not held to what there is: set PARPULL_MAX_MEMORY"
    problem = "little: give larger objects a file (-o FILE)" if room < LEAST_ROOM else None
    return f"{human_size(room)} available", problem


def _shared_memory(root: str) -> Told:
    path = os.path.join(root, "dev/shm")
    if not os.path.isdir(path):
        return "none", None
    about = os.statvfs(path)
    size, free = about.f_blocks * about.f_frsize, about.f_bavail * about.f_frsize
    value = f"{human_size(size)}, {human_size(free)} free"
    if size < LEAST_ROOM:
        return value, "hardly an object fits: containers get more by --shm-size, or a medium: Memory volume"
    return value, None


def _open_files() -> Told:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    shown = ["unlimited" if n == resource.RLIM_INFINITY else str(n) for n in (soft, hard)]
    value = f"{shown[0]}, at most {shown[1]}"
    if soft != resource.RLIM_INFINITY and soft < LEAST_FILES:
        return value, f"many connections, or objects at once, will fail: ulimit -n {LEAST_FILES}"
    return value, None


def file_system_name(number: int) -> str:
    """The name of a file system by its f_type; the number where it has none here."""
    return next((name for known, name in FILE_SYSTEMS if known == number & 0xFFFFFFFF), hex(number & 0xFFFFFFFF))


def _folder(path: str, advice: str) -> Told:
    from .._landing import direct_align, file_system

    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        about = os.fstatvfs(fd)
        free = about.f_bavail * about.f_frsize
        direct = _direct(path, direct_align(fd) or 4096)
        value = f"{_short(path)}: {file_system_name(file_system(fd))}, O_DIRECT {direct}, {human_size(free)} free"
    finally:
        os.close(fd)
    if not os.access(path, os.W_OK | os.X_OK):
        return value, f"it can't be written to: {advice}"
    return value, f"hardly an object fits: {advice}" if free < LEAST_ROOM else None


def _direct(path: str, align: int) -> str:
    """Whether files here can be written past the page cache: tried, on a file that has
    no name."""
    import mmap

    if not hasattr(os, "O_DIRECT") or not hasattr(os, "O_TMPFILE"):
        return "unknown here"
    try:
        fd = os.open(path, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        return f"not tried ({error.strerror})"
    try:
        direct = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC | os.O_DIRECT)
        try:
            with mmap.mmap(-1, max(align, mmap.PAGESIZE)) as page:
                os.pwrite(direct, page, 0)
        finally:
            os.close(direct)
    except OSError as error:
        return f"does not work ({error.strerror})"
    finally:
        os.close(fd)
    return f"works ({align})"


# --- what the user has set ------------------------------------------------------------


def _proxies(environ: Mapping[str, str]) -> Told:
    from ..errors import redact

    shown = [f"{name}={redact(environ[name])}" for name in PROXIES if environ.get(name)]
    shown += [f"{name}={environ[name]}" for name in ("no_proxy", "NO_PROXY") if environ.get(name)]
    unheard = environ.get("HTTP_PROXY") and not environ.get("http_proxy")
    problem = "HTTP_PROXY is not heard, any client of a CGI program could set it: write http_proxy" if unheard else None
    return ", ".join(shown) or "none", problem


def _variables(environ: Mapping[str, str]) -> Iterator[Fact]:
    """PARPULL_*, a fact each."""
    from ..checks import FROM_TEXT, checked
    from ..errors import redact

    for label in sorted(name for name in environ if name.startswith("PARPULL_")):
        name, text = label.removeprefix("PARPULL_").lower(), environ[label]
        if name == "config":
            continue  # a fact of its own
        if name not in FROM_TEXT:
            yield Fact(label, "…", "there is no such option, so it is not heard")
            continue
        problem = None
        try:
            if text:
                checked(name, FROM_TEXT[name](label, text), label)
        except Exception as error:
            problem = _said("it is not possible", error)
        yield Fact(label, (redact(text) if name == "proxy" else text) or "(empty)", problem)


def _said(what: str, error: Exception) -> str:
    hint = getattr(error, "hint", None)
    return f"nothing will be fetched: {what}" + (f"; {hint}" if hint else "")


def _config(environ: Mapping[str, str]) -> Told:
    from ..config import default_path, read
    from ..errors import BadOption

    named = "PARPULL_CONFIG" in environ
    path = environ.get("PARPULL_CONFIG", "") if named else default_path()
    if not path:
        return "none, PARPULL_CONFIG is empty" if named else "none, there is no home folder", None
    if not named and not os.path.exists(path):
        return f"{_short(path)}, not there", None
    try:
        keys = sorted(read(path, named=named))
    except BadOption as error:
        # The message holds the value, which may be a proxy with its password.
        secret = any(word in error.name for word in ("proxy", "headers"))
        return _short(path), _said(f"{error.name} is not possible" if secret else str(error), error)
    return f"{_short(path)}, sets {', '.join(keys) or 'nothing'}", None


def _terminal(environ: Mapping[str, str]) -> Told:
    is_tty = sys.stderr is not None and sys.stderr.isatty()
    term = environ.get("TERM", "")
    value = f"stderr is {'a terminal' if is_tty else 'no terminal'}, TERM={term or '(not set)'}"
    if is_tty:
        value += f", {os.get_terminal_size(sys.stderr.fileno()).columns} columns"
    if environ.get("COLUMNS"):
        value += f", COLUMNS={environ['COLUMNS']}"
    value += f", NO_COLOR {'set' if environ.get('NO_COLOR') else 'not set'}"
    dumb = is_tty and term in ("", "dumb", "unknown")
    return value, "lines are shown in place of the bar: set TERM" if dumb else None


# --- small things ---------------------------------------------------------------------


def _read(root: str, path: str) -> str:
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
        return file.read(4096).strip()


def _short(path: str) -> str:
    """The path with ~ for the home folder: its name may be its owner's."""
    home = os.path.expanduser("~")
    inside = len(home) > 1 and (path + "/").startswith(home + "/")
    return "~" + path[len(home) :] if inside else path
