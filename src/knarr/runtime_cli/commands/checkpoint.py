"""knarr-runtime checkpoint"""

from __future__ import annotations

from knarr.cli.options import Command, Option
from knarr.errors import UsageError
from knarr.runtime.checkpoint import CheckpointRequest, checkpoint
from knarr.runtime_cli.criu_flags import OPTIONS, criu_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.runtime_cli.context import Context


def _checkpoint(context: Context) -> int:
    parsed = context.parsed
    status_fd = parsed.integer("status-fd")
    if parsed.flag("pre-dump") and parsed.flag("lazy-pages"):
        raise UsageError("--pre-dump and --lazy-pages exclude each other")
    request = CheckpointRequest(
        criu_flags(parsed),
        criu=context.criu,
        leave_running=parsed.flag("leave-running"),
        pre_dump=parsed.flag("pre-dump"),
        parent_path=parsed.text("parent-path"),
        tcp_skip_in_flight=parsed.flag("tcp-skip-in-flight"),
        link_remap=parsed.flag("link-remap"),
        page_server=parsed.text("page-server"),
        status_fd=-1 if status_fd is None else status_fd,
    )
    checkpoint(context.directory(), request, context.log.warn)
    return 0


COMMAND = Command(
    "checkpoint",
    "Write a running container to disk, with criu. It is gone then, unless it is to go on.",
    "checkpoint [OPTIONS] ID",
    _checkpoint,
    (
        *OPTIONS,
        Option("leave-running", "It goes on", kind="flag"),
        Option(
            "pre-dump", "Only its memory, and it goes on: a later checkpoint then is quicker", kind="flag"
        ),
        Option("parent-path", "An earlier --pre-dump's images, seen from --image-path", metavar="DIR"),
        Option("page-server", "Send the memory to a criu page-server", metavar="ADDRESS:PORT"),
        Option("status-fd", "Where a zero byte says that --lazy-pages has its server", metavar="FD"),
        Option("tcp-skip-in-flight", "Leave out connections that are being made", kind="flag"),
        Option("link-remap", "Also with files that were deleted and are open", kind="flag"),
    ),
    minimum=1,
    maximum=1,
)
