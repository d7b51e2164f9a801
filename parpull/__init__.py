"""parpull brings one big object at the speed of the wire.

    import parpull
    blob = parpull.fetch("https://host/model.safetensors")            # memory
    parpull.fetch("https://host/data.tar", into="data.tar", connections=16)

Many HTTP ranges at once, each written straight to its final address, proven right.
The names below are imported when they are first used, so that `import parpull`
and `parpull --version` cost next to nothing.
"""

from ._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import errors, events
    from .blob import Blob
    from .client import Client, fetch, fetch_ranges, open, probe, submit
    from .download import Download
    from .errors import ParpullError
    from .future import Progress
    from .options import Options
    from .reader import Reader
    from .sources import Target

__all__ = [
    "Blob",
    "Client",
    "Download",
    "Options",
    "ParpullError",
    "Progress",
    "Reader",
    "Target",
    "__version__",
    "errors",
    "events",
    "fetch",
    "fetch_ranges",
    "open",
    "probe",
    "submit",
]

_HOMES = {
    "Blob": "blob",
    "Client": "client",
    "Download": "download",
    "Options": "options",
    "ParpullError": "errors",
    "Progress": "future",
    "Reader": "reader",
    "Target": "sources",
    "errors": None,
    "events": None,
    "fetch": "client",
    "fetch_ranges": "client",
    "open": "client",
    "probe": "client",
    "submit": "client",
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'parpull' has no attribute {name!r}")
    home = _HOMES[name]
    try:
        module = import_module(f"parpull.{home or name}")
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("parpull._"):
            raise
        raise ImportError(
            f"parpull's compiled module {error.name} is missing. If this is a source checkout, build it first: "
            "`make build`, or `pip install -e .`; if it was installed, Python runs in the checkout's folder, "
            "whose parpull/ hides the installed one."
        ) from error
    value = module if home is None else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
