"""knarr start"""

from __future__ import annotations

import os
import sys

from knarr.cli.each import each
from knarr.cli.options import Command, Option, Parsed
from knarr.engine.container_dir import find
from knarr.engine.engine import Engine
from knarr.errors import UsageError


def _start(parsed: Parsed) -> int:
    from knarr.cli.warnings import warn
    from knarr.engine.start import Foreground, start_existing

    engine = Engine()
    if not (parsed.flag("attach") or parsed.flag("interactive")):
        return each(parsed.args, lambda name: start_existing(engine, find(engine.paths, name), warn=warn))
    if len(parsed.args) > 1:
        raise UsageError("only one container can be started with --attach")
    from knarr.cli.detach_keys import to_hex
    from knarr.engine.monitor import become_front

    directory = find(engine.paths, parsed.args[0])
    foreground = Foreground(
        os.isatty(0),
        parsed.flag("sig-proxy"),
        to_hex(parsed.text("detach-keys")),
        stdin=parsed.flag("interactive"),
        stays=True,
    )
    started = start_existing(engine, directory, foreground=foreground, warn=warn)
    if started is None:  # it runs already
        from knarr.cli.commands.attach import attach

        return attach(directory, parsed, stdin=parsed.flag("interactive"))
    sys.stdout.flush()
    become_front(started.connection, started.front_words)
    return 125


COMMAND = Command(
    "start",
    "Start stopped containers.",
    "start [OPTIONS] CONTAINER [CONTAINER...]",
    _start,
    (
        Option("attach", "Attach to its output and forward signals", "flag", "a"),
        Option("interactive", "Attach standard input as well", "flag", "i"),
        Option("detach-keys", "Keys that leave the container running", default="ctrl-p,ctrl-q"),
        Option("sig-proxy", "Pass signals on to the container", "flag", default="true"),
    ),
    minimum=1,
)
