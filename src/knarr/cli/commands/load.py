"""knarr load"""

from __future__ import annotations

import os

from knarr.cli.as_root_of_namespace import enter
from knarr.cli.options import Command, Option, Parsed
from knarr.cli.warnings import warn
from knarr.engine.engine import Engine
from knarr.errors import UsageError


def _load(parsed: Parsed) -> int:
    from knarr.engine.images import load

    path = parsed.text("input")
    if not path and os.isatty(0):
        raise UsageError(
            "the archive is not read from a terminal", hint="use --input FILE, or redirect the input"
        )
    engine = Engine()
    enter(engine)
    for line in load(engine, path):
        if not parsed.flag("quiet"):
            print(line)
    for line in engine.store.warnings():
        warn(line)
    return 0


COMMAND = Command(
    "load",
    "Read images from an archive of docker, podman or skopeo, or from an OCI layout.",
    "load [OPTIONS]",
    _load,
    (
        Option(
            "input", "Read from a file or a directory in place of standard input", short="i", metavar="FILE"
        ),
        Option("quiet", "Print nothing", "flag", "q"),
    ),
    maximum=0,
)
