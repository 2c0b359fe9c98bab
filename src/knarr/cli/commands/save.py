"""knarr save"""

from __future__ import annotations

import os

from knarr.cli.options import Command, Option, Parsed
from knarr.engine.engine import Engine
from knarr.errors import UsageError


def _save(parsed: Parsed) -> int:
    from knarr.engine.images import save

    path = parsed.text("output")
    if not path and os.isatty(1):
        raise UsageError(
            "the archive is not written to a terminal", hint="use --output FILE, or redirect the output"
        )
    save(Engine(), parsed.args, path, parsed.text("format"))
    return 0


COMMAND = Command(
    "save",
    "Write images with their layers to an archive.",
    "save [OPTIONS] IMAGE [IMAGE...]",
    _save,
    (
        Option("output", "Write to a file (a directory for oci-dir)", short="o", metavar="FILE"),
        Option(
            "format", "docker-archive, oci-archive or oci-dir", default="docker-archive",
            choices=("docker-archive", "oci-archive", "oci-dir"),
        ),
    ),
    minimum=1,
)  # fmt: skip
