"""KvikIO's RemoteFile into host memory: its own threads, tasks of 4 MiB as by default, or larger."""

import kvikio
import kvikio.defaults
import numpy

from bench.clients import huge_memory, report, task


def main() -> None:
    job = task()
    step = job.parts(16 << 20)[0][1]
    kvikio.defaults.set({"num_threads": job.count, "task_size": step})
    memory = huge_memory(job.size)
    with kvikio.RemoteFile.open_http(job.url, job.size) as file:
        got = file.pread(numpy.frombuffer(memory, dtype="u1")).get()
    if got != job.size:
        raise ConnectionError(f"{got} of {job.size} bytes")
    print(report(memoryview(memory)))


if __name__ == "__main__":
    main()
