"""Images in one call: `pull`, `estimate`, `inspect`; what the command line and other programs use.

Each opens a Registry for its small requests, `pull` a Client for the layers. Third floor.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from ..errors import BadOption
from ..options import Options
from .archive import Archive
from .destination import Destination
from .directory import Directory
from .hosts import Files
from .layout import Layout
from .plan import Layer, plan_of
from .platforms import Platform
from .pulling import Pull, machine_for
from .reference import Reference
from .registry import Registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from .plan import Machine, Plan, Ram
    from .pulling import Pulled
    from .registry import Image

__all__ = ["Estimate", "destination_of", "estimate", "inspect", "pull"]

CONNECTIONS = 16  # over all layers of a pull, where the options leave it to us
LAYOUT, ARCHIVE = "oci:", "docker-archive:"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A pull that has not begun. layers: one for each distinct layer, in the manifest's order; plan:
    of those; machine: what it was made for."""

    image: Image
    layers: tuple[Layer, ...]
    plan: Plan
    machine: Machine


def destination_of(to: str | os.PathLike[str] | Destination) -> Destination:
    """What a text names: `oci:DIR` or `oci:DIR:NAME` a layout, `docker-archive:FILE` a tar, anything
    else a folder for the root filesystem. Raises BadOption."""
    if isinstance(to, Destination):
        return to
    text = os.fsdecode(to)
    if text.startswith(LAYOUT):
        path, _, name = text.removeprefix(LAYOUT).partition(":")
        made: Destination = Layout(_path(path, text), name or None)
    elif text.startswith(ARCHIVE):
        made = Archive(_path(text.removeprefix(ARCHIVE), text))
    else:
        made = Directory(_path(text, text))
    return made


def _path(path: str, text: str) -> str:
    if not path or "\0" in path:
        raise BadOption(
            f"to={text!r} names no place", name="to", value=text, hint="DIR, oci:DIR or docker-archive:FILE"
        )
    return path


def inspect(
    reference: str | Reference,
    *,
    platform: str | None = None,
    plain_http: bool = False,
    options: Options | None = None,
    warn: Callable[[str], None] | None = None,
) -> Image:
    """What a reference means on a platform ("linux/arm64"; None: this machine's), proven: its manifest
    and config, no layers. Raises BadReference, UnknownPlatform, NotFound, AccessDenied, RateLimited,
    BadManifest, IntegrityErrors and what the network brings."""
    with _resolved(reference, platform, plain_http, options or Options(), warn) as (_, image):
        return image


def estimate(
    reference: str | Reference,
    *,
    to: str | os.PathLike[str] | Destination = "oci:",
    platform: str | None = None,
    ram: Ram = "largest",
    max_memory: int | None = None,
    plain_http: bool = False,
    options: Options | None = None,
    machine: Machine | None = None,
    warn: Callable[[str], None] | None = None,
) -> Estimate:
    """The plan that a pull would follow, and the least it can take. Nothing is written; `to` only says
    of what kind the destination is. machine: with rates that are known; by default what can be seen of
    this one, which is no limit but its cores. Raises as inspect()."""
    options = _with_connections(options or Options())
    kind = Layout("") if to == "oci:" else destination_of(to)
    image = inspect(reference, platform=platform, plain_http=plain_http, options=options, warn=warn)
    distinct = {each.digest: each for each in image.manifest.layers}
    layers = tuple(
        Layer(each.size, compression=each.layering.compression if each.layering else "none")
        for each in distinct.values()
    )
    machine = machine or machine_for(options.limit, max_memory=max_memory)
    plan = plan_of(layers, machine, ram=ram, keep=kind.keep, unpack=kind.unpack, in_order=kind.in_order)
    return Estimate(image, layers, plan, machine)


def pull(
    reference: str | Reference,
    to: str | os.PathLike[str] | Destination,
    *,
    platform: str | None = None,
    ram: Ram = "largest",
    max_memory: int | None = None,
    plain_http: bool = False,
    options: Options | None = None,
    warn: Callable[[str], None] | None = None,
    watch: Callable[[Pull], Callable[[], object]] | None = None,
    waiting: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Pulled:
    """Bring an image to `to` (see destination_of), all of it proven; or nothing is to be seen there.

    ram: which layers may go to memory on their way, of those that fit into `max_memory` bytes (None:
    what is available): the "largest", "all" or "none". options: of requests and transfers; its
    `connections` are those of all layers together. warn: told of mirrors that were passed over. watch:
    given the Pull before it runs, returns what is called ten times a second; what that raises ends it.
    waiting: makes the context in which it waits; there a signal's handler may raise.
    Raises as inspect(), and BadLayer, UnsafeLayer, SinkErrors, and what ends a transfer."""
    from ..client import Client

    destination = destination_of(to)
    options = _with_connections(options or Options())
    with (
        _resolved(reference, platform, plain_http, options, warn, waiting) as (registry, image),
        Client(options) as client,
    ):
        pulling = Pull(image, destination, client=client, registry=registry, ram=ram, max_memory=max_memory)
        if watch is not None:
            pulling.tick = watch(pulling)
        pulling.waiting = waiting
        return pulling.run()


def _with_connections(options: Options) -> Options:
    return options.replace(connections=CONNECTIONS) if options.connections == "auto" else options


@contextmanager
def _resolved(
    reference: str | Reference,
    platform: str | None,
    plain_http: bool,
    options: Options,
    warn: Callable[[str], None] | None,
    waiting: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Iterator[tuple[Registry, Image]]:
    if isinstance(reference, str):
        reference = Reference.parse(reference)
    wanted = None if platform is None else Platform.parse(platform)
    with Registry(options, files=Files.of_system(), plain_http=plain_http, warn=warn) as registry:
        with waiting():
            image = registry.resolve(reference, wanted)
        yield registry, image
