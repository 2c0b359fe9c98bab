"""knarr kill"""

from __future__ import annotations

from knarr.cli.each import each
from knarr.cli.options import Command, Option, Parsed
from knarr.engine.container_dir import find
from knarr.engine.engine import Engine


def _kill(parsed: Parsed) -> int:
    from knarr.engine.stop import kill
    from knarr.host import signals

    engine = Engine()
    number = signals.number(parsed.text("signal"))
    return each(parsed.args, lambda name: kill(engine, find(engine.paths, name), number))


COMMAND = Command(
    "kill",
    "Send a signal to running containers.",
    "kill [OPTIONS] CONTAINER [CONTAINER...]",
    _kill,
    (Option("signal", "Signal to send", short="s", default="KILL"),),
    minimum=1,
)
