"""pypdl: aiohttp, one file a part, joined at the end."""

from pypdl import Pypdl

from bench.clients import task


def main() -> None:
    job = task()
    with_ca = {}
    if job.ca_file:
        import ssl

        with_ca["ssl"] = ssl.create_default_context(cafile=job.ca_file)
    Pypdl().start(
        url=job.url, file_path=job.out, segments=job.count, multisegment=True, display=False, block=True, **with_ca
    )


if __name__ == "__main__":
    main()
