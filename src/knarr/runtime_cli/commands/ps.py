"""knarr-runtime ps"""

from __future__ import annotations

from knarr.cli.options import Command, Option
from knarr.cli.table import table
from knarr.cli.visible import visible
from knarr.errors import HostError
from knarr.host.process_table import own_columns, ps_lines
from knarr.runtime.listing import pids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.runtime_cli.context import Context


def _ps(context: Context) -> int:
    found = pids(context.directory())
    if context.parsed.text("format") == "json":
        from knarr.oci import json

        print(json.dumps(found))
        return 0
    words = context.parsed.args[1:]
    try:
        print("\n".join(visible(line) for line in ps_lines(words or ("-ef",), found)))
    except HostError:  # no ps(1) on this machine
        if words:
            raise
        print(table(*own_columns(found)))
    return 0


COMMAND = Command(
    "ps",
    "Show the processes of a container.",
    "ps [OPTIONS] ID [PS-OPTIONS]",
    _ps,
    (Option("format", "table or json", short="f", default="table", choices=("table", "json")),),
    minimum=1,
    stops_at_argument=True,
)
