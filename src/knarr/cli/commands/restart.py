"""knarr restart"""

from __future__ import annotations

from knarr.cli.commands.stop import TIMEOUT, timeout_s
from knarr.cli.each import each
from knarr.cli.options import Command, Parsed
from knarr.engine.container_dir import find
from knarr.engine.engine import Engine


def _restart(parsed: Parsed) -> int:
    from knarr.cli.warnings import warn
    from knarr.engine.start import start_existing
    from knarr.engine.state import read_state
    from knarr.engine.stop import stop
    from knarr.errors import Conflict

    engine = Engine()

    def one(name: str) -> None:
        directory = find(engine.paths, name)
        if directory.config().options.auto_remove and read_state(directory).running:
            raise Conflict(f"container {name} goes when it ends (--rm): it cannot be restarted")
        stop(engine, directory, timeout_s(parsed), parsed.text("signal"))
        start_existing(engine, directory, warn=warn)

    return each(parsed.args, one)


COMMAND = Command(
    "restart",
    "Stop containers and start them again.",
    "restart [OPTIONS] CONTAINER [CONTAINER...]",
    _restart,
    TIMEOUT,
    minimum=1,
)
