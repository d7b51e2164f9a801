"""What a wheel has to be before anybody gets it; also for the wheels that a public CI makes.

python -m wheels.check dist/*.whl
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from elftools.elf.elffile import ELFFile  # type: ignore[import-not-found,import-untyped,unused-ignore]

from .sources import WheelError, pins

__all__ = ["check", "exported", "main"]

LARGEST = 3_000_000  # bytes
MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}


def check(path: Path) -> None:
    """WheelError at the first thing that is wrong with the wheel."""
    size = path.stat().st_size
    if size > LARGEST:
        raise WheelError(f"{path.name} has {size} bytes, more than {LARGEST}")
    _metadata(path)
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
        modules = sorted(Path(folder).rglob("*.so"))
        if not modules:
            raise WheelError(f"{path.name} has no compiled module")
        if "linux" in path.name:
            for module in modules:
                _module(path, module)
    _tool("twine", "check", "--strict", str(path))
    if "-abi3-" in path.name:
        _tool("abi3audit", "--strict", str(path))
    if "manylinux" in path.name:
        said = _tool("auditwheel", "show", str(path))
        tags = path.stem.rpartition("-")[2].split(".")
        if not any(tag in said for tag in tags):
            raise WheelError(f"{path.name}: auditwheel does not confirm the tag:\n{said}")


def _metadata(path: Path) -> None:
    """Licences and bill of materials, and no library beside the modules."""
    names = zipfile.ZipFile(path).namelist()
    wanted = ["licenses/LICENSE", "sboms/bundled.cdx.json", *(f"licenses/{name}-LICENSE.txt" for name in pins())]
    for each in wanted:
        if not any(name.endswith(f".dist-info/{each}") for name in names):
            raise WheelError(f"{path.name} lacks .dist-info/{each}")
    if "parpull/_bundled.py" not in names:
        raise WheelError(f"{path.name} does not name what it bundles: parpull/_bundled.py is missing")
    vendored = [name for name in names if re.search(r"\.libs/|\.dylibs/", name)]
    if vendored:
        raise WheelError(f"{path.name} is not linked statically: {vendored}")


def _module(path: Path, module: Path) -> None:
    with module.open("rb") as file:
        machine = ELFFile(file)["e_machine"]
    processor = next(name for name in MACHINES if path.stem.endswith(name))
    if machine != MACHINES[processor]:
        raise WheelError(f"{path.name}: {module.name} is of {machine}, not {MACHINES[processor]}")
    others = [name for name in exported(module) if not name.startswith(("PyInit_", "PyModExport_"))]
    if others:
        raise WheelError(f"{path.name}: {module.name} exports {', '.join(others[:5])}: another libcurl could meet them")


def exported(module: Path) -> list[str]:
    """What `nm -D --defined-only` shows."""
    with module.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".dynsym")
        return sorted(
            symbol.name
            for symbol in (table.iter_symbols() if table else ())
            if symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_info"]["bind"] != "STB_LOCAL"
        )


def _tool(module: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    if done.returncode:
        raise WheelError(f"{module} {' '.join(arguments)}:\n{said}")
    return said


def main(paths: list[str]) -> int:
    """Check each; 1 if any is wrong."""
    wrong = 0 if paths else 1
    for path in paths or ["no wheel was named"]:
        try:
            check(Path(path))
            print(f"{path}: right")
        except (WheelError, OSError) as error:
            print(f"wheels: {error}", file=sys.stderr)
            wrong = 1
    return wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
