"""knarr-runtime delete"""

from __future__ import annotations

from knarr.cli.options import Command, Option
from knarr.errors import NotFound, UsageError
from knarr.runtime.delete import delete
from knarr.runtime.state_dir import StateDir, container_ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.runtime_cli.context import Context


def _delete(context: Context) -> int:
    force = context.parsed.flag("force")
    for directory in _chosen(context):
        try:
            delete(directory, force=force, warn=context.log.warn)
        except NotFound:
            if not force:
                raise
    return 0


def _chosen(context: Context) -> list[StateDir]:
    if not context.parsed.flag("regex"):
        return [context.directory()]
    import re

    try:
        pattern = re.compile(context.parsed.args[0])
    except re.error as e:
        raise UsageError(f"invalid pattern {context.parsed.args[0]!r}: {e}") from None
    return [StateDir(context.root, name) for name in container_ids(context.root) if pattern.search(name)]


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
