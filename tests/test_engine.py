"""Life and death of the threads: fork, exit, signals, each during TLS transfers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

TIMES = int(os.environ.get("PARPULL_TIMES", "20"))  # 200 by hand

START = """
import os, sys, threading
import parpull
url, ca = sys.argv[1:3]
download = parpull.submit(url, connections=8, ca_file=ca)
while download.progress().landed < 1 << 20:
    threading.Event().wait(0.002)
"""

FORK = (
    START
    + """
pid = os.fork()
if pid == 0:
    assert download.done()
    try:
        download.result()
    except parpull.ParpullError as error:
        assert "fork" in str(error)
    blob = parpull.fetch(url, connections=4, ca_file=ca, stop=3 << 20)
    assert blob.size == 3 << 20
    print("child", flush=True)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
download.cancel()
try:
    download.result()
except BaseException:
    pass
print("parent")
"""
)

CANCEL = (
    START
    + """
download.cancel()
import concurrent.futures
try:
    download.result(10)
except concurrent.futures.CancelledError:
    print("cancelled")
"""
)

EXIT = START + "print('leaving')\n"


def run(code, *args, timeout=60):
    env = {**os.environ, "PYTHONWARNINGS": "ignore"}
    return subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=timeout, env=env)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "said"),
    [(FORK, "child\nparent\n"), (CANCEL, "cancelled\n"), (EXIT, "leaving\n")],
    ids=["fork", "cancel", "exit"],
)
def test_during_tls_transfers(code, said, tls_origin, name):
    url = tls_origin.url(name, size=64 << 20, pace=20_000_000)
    for _ in range(TIMES):
        done = run(code, url, tls_origin.ca_file)
        assert (done.returncode, done.stdout, done.stderr) == (0, said, "")


def test_fork_of_an_idle_client(origin, name):
    """An idle client's threads stop before the fork, so 3.12's warning has no cause,
    and both sides go on with it."""
    code = """
import os, sys, warnings
warnings.simplefilter("error")
import parpull
with parpull.Client() as client:
    client.fetch(sys.argv[1]).close()
    pid = os.fork()
    blob = client.fetch(sys.argv[1])
    assert blob.size == 5000000
    if pid == 0:
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
print("both")
"""
    done = run(code, origin.url(name, size=5_000_000))
    assert (done.stdout, done.stderr) == ("both\n", "")


def test_memory_is_inherited_once_it_is_complete(origin, name):
    code = """
import os, sys, parpull
blob = parpull.fetch(sys.argv[1])
pid = os.fork()
if pid == 0:
    os._exit(0 if sum(memoryview(blob)[:100]) >= 0 else 1)
assert os.waitpid(pid, 0)[1] == 0
print("inherited")
"""
    assert run(code, origin.url(name, size=9_000_000)).stdout == "inherited\n"


@pytest.mark.parametrize("verb", ["result", "with"])
def test_keyboard_interrupt_reaches_the_waiting_main_thread(verb, origin, name):
    wait = {"result": "download.result()", "with": "with download: download.result()"}[verb]
    code = f"""
import sys, parpull
download = parpull.submit(sys.argv[1])
print("waiting", flush=True)
try:
    {wait}
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    url = origin.url(name, size=100 << 20, pace=1_000_000)
    child = subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "waiting\n"
    time.sleep(0.2)
    child.send_signal(signal.SIGINT)
    assert child.communicate(timeout=10)[0] == "interrupted\n"
    assert child.returncode == 0
