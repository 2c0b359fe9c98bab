"""knarr images"""

from __future__ import annotations

import time

from knarr.cli.options import Command, Option, Parsed
from knarr.cli.table import table
from knarr.engine.engine import Engine

_HEADS = {"ID": "IMAGE ID", "CreatedAt": "CREATED AT", "CreatedSince": "CREATED"}


def _images(parsed: Parsed) -> int:
    from knarr.engine.images import listed

    rows = listed(
        Engine(),
        parsed.args[0] if parsed.args else "",
        full=parsed.flag("no-trunc"),
        reference_ns=time.time_ns(),
    )
    if parsed.flag("quiet"):
        for image_id in dict.fromkeys(row["ID"] for row in rows):
            print(image_id)
        return 0
    if parsed.text("format"):
        from knarr.cli.templates import render_rows

        print(render_rows(parsed.text("format"), rows, _HEADS), end="")
        return 0
    heads = ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]
    keys = ["Repository", "Tag", "ID", "CreatedSince", "Size"]
    if parsed.flag("digests"):
        heads.insert(2, "DIGEST")
        keys.insert(2, "Digest")
    print(table(heads, [[row[key] for key in keys] for row in rows]))
    return 0


COMMAND = Command(
    "images",
    "List images.",
    "images [OPTIONS] [NAME[:TAG]]",
    _images,
    (
        Option("all", "Accepted for docker's sake: there are no intermediate images", "flag", "a"),
        Option("digests", "Show digests", "flag"),
        Option("format", "Print with a template, or as json"),
        Option("no-trunc", "Do not shorten", "flag"),
        Option("quiet", "Only ids", "flag", "q"),
    ),
    maximum=1,
)
