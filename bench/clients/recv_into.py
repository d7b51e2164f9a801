"""Thirty lines of Python: a thread a connection, recv_into straight to the final address.

No retries, no checks but of the status, no redirects: what the plainest loop costs. To a file each
thread has 1 MiB of its own and pwrite. Over TLS the ssl module decrypts into the same place.
"""

import socket
import ssl
from contextlib import closing

from bench.clients import Task, huge_memory, in_threads, report, task, write_all

BLOCK = 1 << 20


def connect(job: Task) -> socket.socket:
    plain = socket.create_connection(job.host)
    if not job.tls:
        return plain
    return ssl.create_default_context(cafile=job.ca_file).wrap_socket(plain, server_hostname=job.host[0])


def ask(job: Task, connection: socket.socket, start: int, stop: int) -> bytes:
    """What of the body came along with the head."""
    path = "/" + job.url.split("/", 3)[3]
    connection.sendall(
        f"GET {path} HTTP/1.1\r\nHost: {job.host[0]}\r\nRange: bytes={start}-{stop - 1}\r\n\r\n".encode()
    )
    head = b""
    while b"\r\n\r\n" not in head:
        got = connection.recv(4096)
        if not got:
            raise ConnectionError("no answer")
        head += got
    head, _, body = head.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 206"):
        raise ConnectionError(head.split(b"\r\n")[0].decode())
    return body


def receive(connection: socket.socket, target: memoryview) -> None:
    while target:
        got = connection.recv_into(target[:BLOCK])
        if not got:
            raise ConnectionError("cut short")
        target = target[got:]


def main() -> None:
    job = task()
    parts = job.parts()
    memory = None if job.out else memoryview(huge_memory(job.size))
    file = job.open() if job.out else -1

    def work() -> None:
        start, stop = parts.pop()
        block = memoryview(bytearray(BLOCK))
        with closing(connect(job)) as connection:
            body = ask(job, connection, start, stop)
            if memory is not None:
                memory[start : start + len(body)] = body
                receive(connection, memory[start + len(body) : stop])
                return
            block[: len(body)] = body
            filled = len(body)
            while start < stop:
                target = block[: min(BLOCK, stop - start)]
                receive(connection, target[filled:])
                write_all(file, target, start)
                start, filled = start + len(target), 0

    in_threads(work, len(parts))
    if memory is not None:
        print(report(memory))


if __name__ == "__main__":
    main()
