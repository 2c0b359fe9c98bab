"""knarr-runtime delete"""

from __future__ import annotations

from knarr.cli.options import Command, Option
from knarr.errors import NotFound
from knarr.runtime.delete import delete

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.runtime_cli.context import Context


def _delete(context: Context) -> int:
    force = context.parsed.flag("force")
    for directory in context.directories():
        try:
            delete(directory, force=force, warn=context.log.warn)
        except NotFound:
            if not force:
                raise
    return 0


COMMAND = Command(
    "delete",
    "Remove a container that has stopped or was never started.",
    "delete [OPTIONS] ID",
    _delete,
    (
        Option("force", "Kill it first if it runs; none of that id is fine", kind="flag", short="f"),
        Option("regex", "All containers whose id the pattern is found in", kind="flag", short="r"),
    ),
    minimum=1,
    maximum=1,
)
