"""knarr-runtime events"""

from __future__ import annotations

from knarr.cli.options import Command, Option
from knarr.errors import UsageError
from knarr.oci import json
from knarr.runtime.events import follow, stats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.runtime_cli.context import Context

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def _events(context: Context) -> int:
    directory = context.directory()
    if context.parsed.flag("stats"):
        print(json.dumps(stats(directory)))
        return 0
    for event in follow(directory, _interval(context.parsed.text("interval"))):
        print(json.dumps(event), flush=True)
    return 0


def _interval(text: str) -> float:
    number = text.rstrip("hms")
    unit = _SECONDS.get(text[len(number) :] or "s")
    try:
        seconds = float(number) * (unit or 0)
    except ValueError:
        seconds = 0
    if not 0 < seconds < 1e9:
        raise UsageError(f"invalid argument {text!r} for --interval: not a time above zero, as 5s or 1m")
    return seconds


COMMAND = Command(
    "events",
    "Show what a container uses, as JSON, until it ends; and when it runs out of memory.",
    "events [OPTIONS] ID",
    _events,
    (
        Option("interval", "Time between two counts", metavar="TIME", default="5s"),
        Option("stats", "One count, and no more", kind="flag"),
    ),
    minimum=1,
    maximum=1,
)
