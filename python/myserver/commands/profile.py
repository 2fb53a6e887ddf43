"""`myserver profile`: where the threads of a running server spend their time.

Samples come from the samplers of the workers, by the control process; everything is put together
and drawn here.
"""

import argparse
import sys
from pathlib import Path

from myserver.asking import AskError, add_options, find
from myserver.profiles import collect, flame, formats
from myserver.profiles.profile import KINDS, Profile, from_json

MOST_HZ = 250
_FORMATS = ("text", "html", "speedscope", "collapsed", "pprof", "json")
_BY_SUFFIX = {
    ".html": "html",
    ".speedscope.json": "speedscope",
    ".json": "json",
    ".pb.gz": "pprof",
    ".pprof": "pprof",
    ".txt": "text",
    ".collapsed": "collapsed",
    ".folded": "collapsed",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="myserver profile",
        description="Shows where the threads of a running server spend their time: all Python "
        "threads of all workers, those that wait too. The samples are taken inside the workers, for "
        "less than 1 % of a CPU each.",
    )
    parser.add_argument(
        "--seconds", type=float, default=10, metavar="N", help="look for so long [10]"
    )
    parser.add_argument(
        "--recent", action="store_true", help="show what the always-on samplers still know instead"
    )
    parser.add_argument(
        "--hz",
        type=int,
        default=MOST_HZ,
        metavar="N",
        help=f"look so many times a second, at most {MOST_HZ} [{MOST_HZ}]",
    )
    parser.add_argument("--view", metavar="V", help="only views whose name has V in it")
    kinds = parser.add_mutually_exclusive_group()
    for kind, text in (
        ("cpu", "time in which threads compute [default]"),
        ("wall", "all time"),
        ("gil", "time in which threads have the interpreter"),
        ("wait", "time in which threads wait for something else than the interpreter"),
    ):
        kinds.add_argument(f"--{kind}", action="store_const", dest="kind", const=kind, help=text)
    parser.add_argument("--lines", metavar="FUNCTION", help="show the lines of that function")
    parser.add_argument(
        "--diff",
        nargs=2,
        type=Path,
        metavar=("BEFORE", "AFTER"),
        help="compare two profiles that were saved as json",
    )
    parser.add_argument(
        "--format",
        choices=_FORMATS,
        help="text: lists; html: a flame graph; collapsed, speedscope, pprof: for other tools; "
        "json: for --diff and --from [as the name of FILE says, else text]",
    )
    parser.add_argument(
        "--from",
        type=Path,
        dest="source",
        metavar="FILE",
        help="show a profile that was saved as json",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write to FILE")
    add_options(parser)
    return parser


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit status: 2 for wrong arguments or no server."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not 1 <= options.hz <= MOST_HZ:
        parser.error(f"--hz is a number from 1 to {MOST_HZ}")
    if not 0 < options.seconds <= 86400:
        parser.error("--seconds is more than 0, and at most a day")
    options.kind = options.kind or "cpu"
    options.format = options.format or _format_of(options.output)
    if options.format == "pprof" and not options.output and sys.stdout.isatty():
        parser.error("pprof is not for a terminal: name a file with -o")
    try:
        made = _difference(options) if options.diff else _render(_take(options), options)
        _write(made, options.output)
    except (AskError, OSError, ValueError) as error:
        print(f"myserver profile: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _format_of(path: Path | None) -> str:
    name = path.name if path else ""
    return next((kind for suffix, kind in _BY_SUFFIX.items() if name.endswith(suffix)), "text")


def _read(path: Path) -> Profile:
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None


def _take(options: argparse.Namespace) -> Profile:
    if options.source:
        profile = _read(options.source)
    elif options.recent:
        profile = collect.recent(find(options))
    else:
        control = find(options)
        show = sys.stderr.isatty()
        profile = collect.live(
            control, options.seconds, options.hz, lambda s: _progress(s, options.seconds, show)
        )
        if show:
            print("\r\033[K", end="", file=sys.stderr)
    _warn(profile)
    if options.view:
        seen = sorted({place.view for place in profile.places})
        profile = profile.only(options.view)
        if not profile.places:
            raise ValueError(
                f"no view with {options.view} in its name was seen; seen were: "
                + (", ".join(seen[:20]) or "none")
            )
    return profile


def _progress(passed: float, seconds: float, show: bool) -> None:
    if show:
        print(f"\rprofiling: {passed:.0f} of {seconds:g} s", end="", file=sys.stderr, flush=True)


def _warn(profile: Profile) -> None:
    if profile.lost:
        print(
            f"myserver profile: {profile.lost} samples are missing, they came too fast; use a "
            "smaller --hz",
            file=sys.stderr,
        )
    if profile.slowed:
        print(
            "myserver profile: a sampler has looked less often, to stay within 1 % of a CPU",
            file=sys.stderr,
        )


def _render(profile: Profile, options: argparse.Namespace) -> str | bytes:
    kind = options.kind
    assert kind in KINDS
    if options.lines:
        return formats.lines_of(profile, kind, options.lines)
    if options.format == "html":
        return flame.flame(profile, kind)
    if options.format == "speedscope":
        return formats.speedscope(profile)
    if options.format == "collapsed":
        return formats.collapsed(profile, kind)
    if options.format == "pprof":
        return formats.pprof(profile)
    if options.format == "json":
        return profile.to_json()
    return formats.report(profile, kind)


def _difference(options: argparse.Namespace) -> str:
    before, after = (_read(path) for path in options.diff)
    if options.view:
        before, after = before.only(options.view), after.only(options.view)
    if options.format == "html":
        return flame.difference(before, after, options.kind)
    if options.format == "text":
        return flame.difference_text(before, after, options.kind)
    raise ValueError(f"a difference is shown as html or text, not as {options.format}")


def _write(made: str | bytes, path: Path | None) -> None:
    data = made.encode("utf-8", "replace") if isinstance(made, str) else made
    if path:
        path.write_bytes(data)
    else:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
