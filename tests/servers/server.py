"""The origin's process: a listening socket, a thread a connection, a scenario for each request.

`/SCENARIO/NAME[/more]?size=…&version=…&…` is the whole interface: the scenario (or `plain`) decides
the fault, the query the object and the manner, the name whose counters move. Runs until the process
ends. Knows everything beside it; the tests talk to it through origin.py only.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from dataclasses import asdict
from itertools import count
from typing import TYPE_CHECKING

from tests.servers.answers import Answer, Ask, note, parse_range
from tests.servers.content import tile
from tests.servers.delivery import conclude, deliver
from tests.servers.manner import IDENTITY, parse_manner
from tests.servers.scenarios import Fault, load_all
from tests.servers.state import Census, NameState, Record
from tests.servers.wire import BadRequest, Connection

if TYPE_CHECKING:
    from tests.servers.wire import Request

_BACKLOG = 1024


class Server:
    """Listens on one address and answers for ever."""

    def __init__(self, host: str, port: int, tls: tuple[str, str] | None = None, client_ca: str | None = None) -> None:
        self._context = _context(*tls, client_ca) if tls else None
        self._faults = {name: one.server for name, one in load_all().items()} | {"plain": Fault()}
        self._lock = threading.Lock()
        self._names: dict[str, NameState] = {}
        self._census = Census()
        self._door: int | None = None
        self._listener = socket.create_server((host, port), backlog=_BACKLOG)
        self.host, self.port = self._listener.getsockname()[:2]
        tile(0)  # the first request should not pay for it
        threading.Thread(target=self._accept, daemon=True).start()

    def log(self, name: str, settle: float) -> list[dict[str, object]]:
        """The records of a name, once none is under way or `settle` seconds have passed."""
        return [asdict(record) for record in self._state(name).settled(settle)]

    def most_open(self) -> int:
        """The most connections that were open at once since the last reset."""
        return self._census.most()

    def open_now(self) -> int:
        """How many connections are open."""
        return len(self._census.alive())

    def reset(self) -> None:
        """Forget all names and count connections anew."""
        with self._lock:
            self._names.clear()
            self._door = None
        self._census.reset()

    def _state(self, name: str) -> NameState:
        with self._lock:
            return self._names.setdefault(name, NameState(name))

    def _accept(self) -> None:
        for number in count(1):
            sock = self._next()
            connection = Connection(sock, number)
            self._census.arrived(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _next(self) -> socket.socket:
        while True:
            if self._door_shut():
                # Only a closed listener refuses: what still waits in its backlog is reset with it.
                address = self._listener.getsockname()
                self._listener.close()
                while self._door_shut():
                    time.sleep(0.005)
                self._listener = socket.create_server(address[:2], backlog=_BACKLOG)
            with contextlib.suppress(OSError):  # shut down to look at the door again
                return self._listener.accept()[0]

    def _door_shut(self) -> bool:
        return self._door is not None and len(self._census.alive()) >= self._door

    def _serve(self, connection: Connection) -> None:
        try:
            if self._context is not None:
                connection.secure(self._context)
            for served in count(1):
                request = connection.read_request()
                if request is None or not self._respond(connection, request, served):
                    break
        except BadRequest as error:
            with contextlib.suppress(OSError):
                connection.send_all(f"HTTP/1.1 400 Bad Request\r\n\r\n{error}\n".encode())
        except OSError:
            pass  # the client went away, which is its right
        finally:
            self._census.left(connection, connection.close)

    def _respond(self, connection: Connection, request: Request, served: int) -> bool:
        record = Record(
            method=request.method,
            path=request.path,
            query=dict(request.query),
            headers=dict(request.headers),
            asked=parse_range(request.headers.get("range")),
            connection=connection.number,
            tls=connection.tls,
            certificate=connection.certificate,
            address=connection.address,
            time=time.monotonic(),
        )
        _, scenario, name, *_ = (*request.path.split("/"), "", "")
        state = self._state(name)
        state.begin(record)
        try:
            answer = self._decide(scenario, request, state, record, served)
            connection.pace(answer.pace)
            if answer.door is not None:
                self._shut_above(answer.door)
            deliver(answer, connection, record)
            return conclude(answer, connection, request)
        finally:
            state.end(record)

    def _decide(self, scenario: str, request: Request, state: NameState, record: Record, served: int) -> Answer:
        fault = self._faults.get(scenario)
        if fault is None:
            return note(404, f"no scenario {scenario}\n")
        query = request.query
        try:
            own = {key: text for key, text in query.items() if key not in IDENTITY}
            manner = parse_manner({**fault.manner, **own})
            size, version = int(query["size"]), int(query.get("version", "0"))
        except (ValueError, KeyError) as error:
            return note(400, f"{error}\n")
        if manner.latency:
            time.sleep(manner.latency)
        ask = Ask(request, size, version, manner, state, self._census, record, self.port)
        answer = fault.answer(ask)
        return answer.in_manner(manner, served)

    def _shut_above(self, door: int) -> None:
        self._door = door
        if self._door_shut():
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accept


def _context(cert_file: str, key_file: str, client_ca: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(cert_file, key_file)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(client_ca)
    return context
