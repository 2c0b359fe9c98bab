"""knarr unpause"""

from __future__ import annotations

from knarr.cli.each import each
from knarr.cli.options import Command, Parsed
from knarr.engine.container_dir import find
from knarr.engine.engine import Engine


def _unpause(parsed: Parsed) -> int:
    from knarr.engine.stop import unpause

    engine = Engine()
    return each(parsed.args, lambda name: unpause(find(engine.paths, name)))


COMMAND = Command(
    "unpause", "Let frozen containers go on.", "unpause CONTAINER [CONTAINER...]", _unpause, minimum=1
)
