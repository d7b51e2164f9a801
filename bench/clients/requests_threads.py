"""requests as well as it goes: a thread and a session a connection, 1 MiB read and written at a time.

`raw.readinto` spares the bytes object that `iter_content` makes.
"""

import requests

from bench.clients import huge_memory, in_threads, report, task, write_all

BLOCK = 1 << 20


def main() -> None:
    job = task()
    if job.urls:
        return many()
    parts = job.parts()
    memory = None if job.out else memoryview(huge_memory(job.size))
    file = job.open() if job.out else -1

    def work() -> None:
        start, stop = parts.pop()
        block = memoryview(bytearray(BLOCK))
        headers = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        with (
            requests.Session() as session,
            session.get(job.url, headers=headers, stream=True, verify=job.ca_file or True) as answer,
        ):
            if answer.status_code != 206:
                raise ConnectionError(answer.status_code)
            while start < stop:
                target = (block if memory is None else memory[start:stop])[: min(BLOCK, stop - start)]
                got = answer.raw.readinto(target)
                if not got:
                    raise ConnectionError("cut short")
                if memory is None:
                    write_all(file, target[:got], start)
                start += got

    in_threads(work, len(parts))
    if memory is not None:
        print(report(memory))
    return None


def many() -> None:
    """Small objects: as many threads, each with a session that keeps its connection."""
    job = task()
    left = job.many()

    def work() -> None:
        with requests.Session() as session:
            while True:
                try:
                    url, path = left.pop()
                except IndexError:
                    return
                answer = session.get(url, headers={"Accept-Encoding": "identity"}, verify=job.ca_file or True)
                answer.raise_for_status()
                with open(path, "wb") as file:
                    file.write(answer.content)

    in_threads(work, job.count)


if __name__ == "__main__":
    main()
