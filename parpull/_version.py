"""The one place where the version is written."""

__version__ = "0.1.0"


def version_line() -> str:
    """What `--version` says: a portable wheel also names the libraries that it has built in."""
    try:
        from ._bundled import BUNDLED
    except ImportError:
        return f"parpull {__version__}"
    return f"parpull {__version__} (with {BUNDLED})"
