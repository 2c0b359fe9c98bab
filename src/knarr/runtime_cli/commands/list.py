"""knarr-runtime list"""

from __future__ import annotations

import os

from knarr.cli.options import Command, Option
from knarr.errors import NotFound
from knarr.runtime.listing import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.runtime_cli.context import Context

_HEAD = ("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")


def _list(context: Context) -> int:
    if context.root_given and not os.path.isdir(context.root):
        raise NotFound("directory", context.root)
    found = list(containers(context.root))
    if context.parsed.flag("quiet"):
        for document in found:
            print(document["id"])
        return 0
    if context.parsed.text("format") == "json":
        from knarr.oci import json

        print(json.dumps(found))
        return 0
    from knarr.cli.table import table

    rows = [tuple(str(d[name.lower()]) for name in _HEAD) for d in found]
    print(table(_HEAD, rows))
    return 0


COMMAND = Command(
    "list",
    "List the containers below --root.",
    "list [OPTIONS]",
    _list,
    (
        Option("format", "table or json", short="f", default="table", choices=("table", "json")),
        Option("quiet", "Only their ids", kind="flag", short="q"),
    ),
    maximum=0,
)
