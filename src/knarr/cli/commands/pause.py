"""knarr pause"""

from __future__ import annotations

from knarr.cli.each import each
from knarr.cli.options import Command, Parsed
from knarr.engine.container_dir import find
from knarr.engine.engine import Engine


def _pause(parsed: Parsed) -> int:
    from knarr.engine.stop import pause

    engine = Engine()
    return each(parsed.args, lambda name: pause(find(engine.paths, name)))


COMMAND = Command(
    "pause", "Freeze all processes of containers.", "pause CONTAINER [CONTAINER...]", _pause, minimum=1
)
