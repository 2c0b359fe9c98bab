"""knarr exec"""

from __future__ import annotations

import os
import sys

from knarr.cli.container_flags import assignments
from knarr.cli.options import Command, Option, Parsed
from knarr.engine.container_dir import find
from knarr.engine.engine import Engine
from knarr.errors import UsageError


def _exec(parsed: Parsed) -> int:
    from knarr.cli.detach_keys import to_hex
    from knarr.cli.warnings import warn
    from knarr.engine.exec import ExecRequest, execute

    engine = Engine()
    directory = find(engine.paths, parsed.args[0])
    if len(parsed.args) < 2:
        raise UsageError("exec needs a command", hint="usage: knarr exec CONTAINER COMMAND [ARGUMENT...]")
    env: list[str] = []
    for file in parsed.many("env-file"):
        from knarr.cli.container_flags import file_lines

        env += file_lines(file)
    request = ExecRequest(
        args=parsed.args[1:],
        env=tuple(assignments((*env, *parsed.many("env")))),
        user=parsed.text("user"),
        workdir=parsed.text("workdir"),
        tty=parsed.flag("tty"),
        stdin=parsed.flag("interactive"),
        privileged=parsed.flag("privileged"),
        detach=parsed.flag("detach"),
        detach_keys=to_hex(parsed.text("detach-keys")) if parsed.flag("tty") else "",
    )
    if request.tty and request.stdin and not request.detach and not os.isatty(0):
        raise UsageError("the input device is not a terminal", hint="leave -t away")
    sys.stdout.flush()
    return execute(engine, directory, request, warn=warn)


COMMAND = Command(
    "exec",
    "Run a command in a running container.",
    "exec [OPTIONS] CONTAINER COMMAND [ARGUMENT...]",
    _exec,
    (
        Option("detach", "Run it in the background", "flag", "d"),
        Option("detach-keys", "Keys that leave the command running", default="ctrl-p,ctrl-q"),
        Option("env", "Set an environment variable", "many", "e", "KEY[=VALUE]"),
        Option("env-file", "Read environment variables from a file", "many", metavar="FILE"),
        Option("interactive", "Keep standard input open", "flag", "i"),
        Option("privileged", "Give the command all capabilities", "flag"),
        Option("tty", "Give it a terminal", "flag", "t"),
        Option("user", "User and group to run as", short="u", metavar="USER[:GROUP]"),
        Option("workdir", "Working directory", short="w", metavar="DIR"),
    ),
    minimum=1,
    stops_at_argument=True,
)
