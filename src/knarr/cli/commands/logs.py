"""knarr logs"""

from __future__ import annotations

from knarr.cli.options import Command, Option, Parsed
from knarr.engine.container_dir import find
from knarr.engine.engine import Engine
from knarr.errors import UsageError


def _logs(parsed: Parsed) -> int:
    from knarr.engine.logs import LogQuery, moment, print_logs

    engine = Engine()
    tail = parsed.text("tail")
    if tail not in ("", "all") and (not tail.removeprefix("-").isdecimal() or len(tail) > 18):
        raise UsageError(f"invalid argument {tail!r} for --tail: not a number of lines")
    lines = None if tail in ("", "all") or tail.startswith("-") else int(tail)
    query = LogQuery(
        follow=parsed.flag("follow"),
        tail=lines,
        since_ns=moment(parsed.text("since"), "--since"),
        until_ns=moment(parsed.text("until"), "--until"),
        timestamps=parsed.flag("timestamps"),
    )
    print_logs(find(engine.paths, parsed.args[0]), query)
    return 0


COMMAND = Command(
    "logs",
    "Show what a container has printed.",
    "logs [OPTIONS] CONTAINER",
    _logs,
    (
        Option("follow", "Go on until the container ends", "flag", "f"),
        Option("since", "Only what was printed after a time (2026-01-31T12:00:00Z) or an age (10m)"),
        Option("until", "Only what was printed before a time or an age"),
        Option("tail", "The last N lines", short="n", metavar="N", default="all"),
        Option("timestamps", "Show when each line was printed", "flag", "t"),
    ),
    minimum=1,
    maximum=1,
)
