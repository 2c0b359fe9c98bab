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

    force, volumes = parsed.flag("force"), parsed.flag("volumes")
    return each(
        parsed.args,
        lambda name: remove(engine, find(engine.paths, name), force=force, volumes=volumes),
        forgiven=(NotFound,) if force else (),
    )


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
