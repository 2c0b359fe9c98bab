"""knarr rm"""

from __future__ import annotations

from knarr.cli.each import each
from knarr.cli.options import Command, Option, Parsed
from knarr.engine.container_dir import find
from knarr.engine.engine import Engine
from knarr.errors import NotFound


def _rm(parsed: Parsed) -> int:
    from knarr.engine.remove import remove

    engine = Engine()

    def one(name: str) -> None:
        try:
            remove(
                engine, find(engine.paths, name), force=parsed.flag("force"), volumes=parsed.flag("volumes")
            )
        except NotFound:
            if not parsed.flag("force"):
                raise

    return each(parsed.args, one)


COMMAND = Command(
    "rm",
    "Remove containers and their writable layers.",
    "rm [OPTIONS] CONTAINER [CONTAINER...]",
    _rm,
    (
        Option("force", "Kill a running container first; a missing one is no error", "flag", "f"),
        Option("volumes", "Remove its anonymous volumes as well", "flag", "v"),
    ),
    minimum=1,
    aliases=("remove",),
)
