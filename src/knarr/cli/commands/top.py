"""knarr top"""

from __future__ import annotations

from knarr.cli.options import Command, Parsed
from knarr.cli.table import table
from knarr.engine.container_dir import find
from knarr.engine.engine import Engine


def _top(parsed: Parsed) -> int:
    from knarr.engine.top import processes

    engine = Engine()
    directory = find(engine.paths, parsed.args[0])
    heads, rows = processes(directory, parsed.args[1:])
    print(table(heads, rows))
    return 0


COMMAND = Command(
    "top",
    "Show the processes of a running container.",
    "top CONTAINER [PS-OPTIONS]",
    _top,
    minimum=1,
    stops_at_argument=True,
)
