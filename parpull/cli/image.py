"""The verb `image`: pull an image, show the plan for it, or say what it is.

The work is parpull.oci's, which needs the extra of that name.
"""

from __future__ import annotations

from .layers import Layers, short
from .outcome import UsageError, say, write_out
from .parser import CODES, add_network, add_telling, options_of, size_of
from .stop import Signals, Stopped
from .text import duration, human_rate, human_size, plural

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..oci.registry import Image
    from ..oci.verbs import Estimate
    from ..options import Options
    from .parser import Arguments, Parser

__all__ = ["EPILOG", "SUMMARY", "USAGE", "add", "run"]

SUMMARY = "pull a container image, or show what a pull would do"
USAGE = "parpull image pull|plan|inspect [options] REFERENCE"
EPILOG = f"""\
examples:
  parpull image pull debian:12 --to rootfs             its files, in a folder
  parpull image pull name:tag --to oci:layout          for skopeo, podman, umoci
  parpull image pull name:tag --to docker-archive:x.tar      for docker load
  parpull image plan name:tag                          what goes through memory
  parpull image inspect --platform linux/arm64 name:tag --json

{CODES}"""
ACTIONS = ("pull", "plan", "inspect")


def add(parser: Parser) -> None:
    """The arguments of image."""
    what = parser.add_argument_group("what")
    what.add_argument("action", metavar="pull|plan|inspect", help="what to do")
    what.add_argument("reference", metavar="REFERENCE", help="[registry/]name[:tag][@digest]")
    what.add_argument("--platform", metavar="OS/ARCH", help="of an image for several (default: this machine's)")
    what.add_argument("--plain-http", action="store_true", help="speak to the registry without TLS")
    where = parser.add_argument_group("where to")
    where.add_argument("--to", metavar="PLACE", help="DIR for its files, oci:DIR[:NAME], or docker-archive:FILE")
    where.add_argument("--ram", metavar="WHICH", help="layers that go through memory: largest (the default), all, none")
    where.add_argument(
        "--max-memory", type=size_of("--max-memory"), metavar="SIZE", help="of those (default: what is available)"
    )
    add_network(parser)
    add_telling(parser, verbose=False, json="one event a line; plan, inspect: one JSON object")


def run(args: Arguments) -> int:
    """Do it; return the exit code."""
    if args.action not in ACTIONS:
        raise UsageError(f"image {args.action} is nothing to do", f"one of {', '.join(ACTIONS)}")
    if args.ram not in (None, "largest", "all", "none"):
        raise UsageError(f"--ram {args.ram} is no choice", "largest, all or none")
    if args.action == "pull" and not args.to:
        raise UsageError("image pull wants a place", "--to DIR, --to oci:DIR or --to docker-archive:FILE")
    try:
        from .. import oci  # noqa: F401  # its libraries are an extra
        from ..oci import verbs
    except ModuleNotFoundError as error:
        raise UsageError(f"images need {error.name}", "pip install 'parpull[oci]'") from None
    options = options_of(args)
    how: dict[str, Any] = {"platform": args.platform, "plain_http": args.plain_http, "options": options}
    with Signals() as signals:
        try:
            if args.action == "pull":
                return _pull(args, options, how, signals)
            with signals.armed():
                if args.action == "plan":
                    _show_plan(verbs.estimate(args.reference, **how, **_plan_options(args), warn=_warn(args)), args)
                else:
                    _show(verbs.inspect(args.reference, **how, warn=_warn(args)), args)
        except Stopped as stopped:
            return stopped.code
    return 0


def _plan_options(args: Arguments) -> dict[str, Any]:
    chosen: dict[str, Any] = {"ram": args.ram or "largest", "max_memory": args.max_memory}
    return chosen | ({"to": args.to} if args.to else {})


def _warn(args: Arguments) -> Any:
    return (lambda message: None) if args.quiet else (lambda message: say(f"parpull: warning: {message}"))


def _pull(args: Arguments, options: Options, how: dict[str, Any], signals: Signals) -> int:
    from ..oci import verbs

    shown = Layers(quiet=args.quiet, json=args.json)
    try:
        pulled = verbs.pull(
            args.reference,
            args.to,
            **how,
            ram=args.ram or "largest",
            max_memory=args.max_memory,
            warn=lambda message: shown.line(f"parpull: warning: {message}"),
            watch=shown.watch,
            waiting=signals.armed,
        )
    except Stopped as stopped:
        shown.close()
        if not args.quiet:
            say(f"parpull: stopped by {stopped}; run it again to go on")
        return stopped.code
    finally:
        shown.close()
    if args.json:
        _write({"event": "pulled"} | {name: getattr(pulled, name) for name in pulled.__slots__})
    elif not args.quiet:
        rate = human_rate(pulled.fetched / pulled.seconds) if pulled.seconds else ""
        here = pulled.size - pulled.fetched
        known = f", {human_size(here)} were here" if here > 0 else ""
        say(f"{pulled.path}: {human_size(pulled.fetched)} in {duration(pulled.seconds)} ({rate}){known}")
    return 0


def _write(data: dict[str, Any]) -> None:
    import json

    write_out((json.dumps(data) + "\n").encode())


def _show(image: Image, args: Arguments) -> None:
    manifest = image.manifest
    facts: dict[str, Any] = {
        "reference": str(image.reference),
        "digest": str(image.documents[-1].descriptor.digest),
        "media_type": manifest.media_type,
        "platform": None if image.config is None else str(image.config.platform),
        "layers": [
            {"digest": str(each.digest), "size": each.size, "media_type": each.media_type} for each in manifest.layers
        ],
        "config": None if image.config is None else dict(image.config.document),
        "quota": None if image.quota is None else {n: getattr(image.quota, n) for n in image.quota.__slots__},
    }
    if args.json:
        _write(facts)
        return
    lines = [
        ("reference", facts["reference"]),
        ("digest", facts["digest"]),
        ("type", facts["media_type"]),
        ("platform", facts["platform"] or "none: an artifact"),
        ("size", f"{human_size(sum(e.size for e in manifest.layers))} in {plural(len(manifest.layers), 'layer')}"),
    ]
    lines += [("layer", f"{short(str(e.digest))}  {human_size(e.size):>10}  {e.media_type}") for e in manifest.layers]
    if image.quota is not None:
        lines.append(("quota", str(image.quota)))
    write_out("".join(f"{name:11}{value}\n" for name, value in lines).encode())


def _show_plan(found: Estimate, args: Arguments) -> None:
    plan, layers = found.plan, found.layers
    digests = list(dict.fromkeys(str(each.digest) for each in found.image.manifest.layers))
    steps: list[dict[str, Any]] = [
        {"digest": digests[step.index], "size": layers[step.index].size}
        | {"place": step.place, "connections": step.connections}
        for step in plan.steps
    ]
    if args.json:
        bounds = [{"what": what, "seconds": round(seconds, 3)} for what, seconds in plan.bounds]
        _write({"steps": steps, "bounds": bounds, "memory": plan.memory})
        return
    text = f"{plural(len(steps), 'layer')}, {human_size(sum(layer.size for layer in layers))}"
    lines = [text + (f", {human_size(plan.memory)} of it through memory" if plan.memory else "")]
    for step in steps:
        place = "RAM" if step["place"] == "memory" else "disk"
        at = plural(step["connections"], "connection") if step["connections"] else "waits for its turn"
        lines.append(f"  {short(step['digest'])}  {human_size(step['size']):>10}  {place:4}  {at}")
    if plan.seconds > 0:
        lines.append(f"at least {duration(plan.seconds)}: {plan.bound} (what the network gives is not known yet)")
    write_out("".join(f"{line}\n" for line in lines).encode())
