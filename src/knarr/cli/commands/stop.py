"""knarr stop"""

from __future__ import annotations

from knarr.cli.each import each
from knarr.cli.options import Command, Option, Parsed
from knarr.engine.container_dir import find
from knarr.engine.engine import Engine

TIMEOUT = (
    Option("time", "Seconds until the container is killed, -1 for never", short="t"),
    Option("timeout", "The same as --time"),
    Option("signal", "Signal to send in place of the container's own", short="s"),
)


def timeout_s(parsed: Parsed) -> float | None:
    """The timeout asked for, `None` for the container's own."""
    seconds = parsed.integer("timeout") if parsed.given("timeout") else parsed.integer("time")
    return None if seconds is None else float(seconds)


def _stop(parsed: Parsed) -> int:
    from knarr.engine.stop import stop

    engine = Engine()
    signal = parsed.text("signal")
    return each(parsed.args, lambda name: stop(engine, find(engine.paths, name), timeout_s(parsed), signal))


COMMAND = Command(
    "stop",
    "Stop running containers: their stop signal, and after a while SIGKILL.",
    "stop [OPTIONS] CONTAINER [CONTAINER...]",
    _stop,
    TIMEOUT,
    minimum=1,
)
