"""knarr-runtime create"""

from __future__ import annotations

from knarr.cli.options import Command, Option
from knarr.runtime.create import create
from knarr.runtime_cli.making import OPTIONS, bundle_of, request_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.runtime_cli.context import Context


def _create(context: Context) -> int:
    bundle = bundle_of(context)
    context.log.leave_standard_error()
    create(request_of(context, bundle, detached=True), bundle, context.facts, context.log.warn)
    return 0


COMMAND = Command(
    "create",
    "Create a container from a bundle; its program waits for `start`.",
    "create [OPTIONS] ID",
    _create,
    (*OPTIONS, Option("no-subreaper", "Ignored: this process is none", kind="flag")),
    minimum=1,
    maximum=1,
)
