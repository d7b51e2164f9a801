"""A server in a process of its own, ordered about over its standard input and output.

One JSON object a line each way: the child first says where it listens, then answers each order
(`{"do": NAME, ...}`) with `{"is": VALUE}` or `{"error": TEXT}`. A pipe loses nothing, needs no
port, and its end is the death notice: the child exits when its standard input closes, however the
parent died. Knows processes and JSON; must not know what the servers serve.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]


class ServerFailed(RuntimeError):
    """The server process refused an order, or is gone."""


def obey(hello: Mapping[str, object], orders: Mapping[str, Callable[..., object]]) -> NoReturn:
    """The child's side: announce, then carry out orders until standard input closes."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # a stray print must not break the protocol
    print(json.dumps(hello), file=out)
    for line in sys.stdin:
        order = json.loads(line)
        try:
            reply: dict[str, object] = {"is": orders[order.pop("do")](**order)}
        except (LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
            # told to the parent, which raises it
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=out)
    os._exit(0)  # connection threads may sit in a blocking send: nobody is left to wait for them


class ServerProcess:
    """The parent's side: starts `python -m MODULE ARGS`, reads its hello, passes orders on."""

    def __init__(self, module: str, args: Sequence[str]) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        try:
            self.hello: dict[str, Any] = self._read()
        except BaseException:
            self.stop()
            raise

    def order(self, do: str, **args: object) -> Any:  # JSON
        """Have the server do one thing and return what it answers."""
        with self._lock:
            pipe = self._process.stdin
            if pipe is None or pipe.closed:
                raise ServerFailed("the server was stopped")
            try:
                pipe.write(json.dumps({"do": do, **args}) + "\n")
                pipe.flush()
            except BrokenPipeError:
                raise ServerFailed("the server is gone") from None
            reply = self._read()
        if "error" in reply:
            raise ServerFailed(f"{do}: {reply['error']}")
        return reply["is"]

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ServerFailed(f"the server exited with {self._process.wait(5)}")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def stop(self) -> None:
        """End the process; safe to call twice."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
