"""knarr wait"""

from __future__ import annotations

from knarr.cli.main import complain
from knarr.cli.options import Command, Parsed
from knarr.engine.container_dir import find
from knarr.engine.engine import Engine
from knarr.errors import KnarrError


def _wait(parsed: Parsed) -> int:
    from knarr.engine.stop import wait

    engine = Engine()
    failed = 0
    for name in parsed.args:
        try:
            print(wait(engine, find(engine.paths, name)), flush=True)
        except KnarrError as e:
            complain(e)
            failed = 1
    return failed


COMMAND = Command(
    "wait",
    "Wait until containers stop, then print their exit codes.",
    "wait CONTAINER [CONTAINER...]",
    _wait,
    minimum=1,
)
