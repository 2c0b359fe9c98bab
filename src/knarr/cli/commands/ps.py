"""knarr ps"""

from __future__ import annotations

from knarr.cli.options import Command, Option, Parsed
from knarr.cli.table import table
from knarr.engine.engine import Engine

_COLUMNS = ("CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES")

_HEADS = {
    "ID": "CONTAINER ID",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "LocalVolumes": "LOCAL VOLUMES",
}


def _ps(parsed: Parsed) -> int:
    from knarr.engine.listing import Filters, describe, summaries

    engine = Engine()
    last = parsed.integer("last")
    if parsed.flag("latest"):
        last = 1
    shown = summaries(
        engine, everything=parsed.flag("all") or last is not None, filters=Filters(parsed.many("filter"))
    )
    if last is not None and last >= 0:
        shown = shown[:last]
    full = parsed.flag("no-trunc")
    if parsed.flag("quiet"):
        for summary in shown:
            print(summary.id if full else summary.id[:12])
        return 0
    rows = [describe(summary, full=full) for summary in shown]
    form = parsed.text("format")
    if form:
        from knarr.cli.templates import render_rows

        print(render_rows(form, rows, _HEADS), end="")
        return 0
    print(
        table(
            _COLUMNS,
            [
                [r["ID"], r["Image"], r["Command"], r["RunningFor"], r["Status"], r["Ports"], r["Names"]]
                for r in rows
            ],
        )
    )
    return 0


COMMAND = Command(
    "ps",
    "List containers.",
    "ps [OPTIONS]",
    _ps,
    (
        Option("all", "Those that do not run as well", "flag", "a"),
        Option(
            "filter", "Only those that match: id, name, label, status, exited, ancestor, network", "many", "f"
        ),
        Option("format", "Print with a template, or as json"),
        Option("last", "The last N created, running or not", short="n", metavar="N"),
        Option("latest", "The last one created", "flag", "l"),
        Option("no-trunc", "Do not shorten", "flag"),
        Option("quiet", "Only ids", "flag", "q"),
    ),
    maximum=0,
    aliases=("container ls",),
)
