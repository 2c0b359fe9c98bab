"""knarr rename"""

from __future__ import annotations

from knarr.cli.options import Command, Parsed
from knarr.engine.container_dir import find
from knarr.engine.engine import Engine


def _rename(parsed: Parsed) -> int:
    from knarr.engine.rename import rename

    engine = Engine()
    rename(engine, find(engine.paths, parsed.args[0]), parsed.args[1])
    return 0


COMMAND = Command(
    "rename", "Give a container another name.", "rename CONTAINER NAME", _rename, minimum=2, maximum=2
)
