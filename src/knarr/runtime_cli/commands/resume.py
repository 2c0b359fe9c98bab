"""knarr-runtime resume"""

from __future__ import annotations

from knarr.cli.options import Command
from knarr.runtime.pause import resume

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.runtime_cli.context import Context


def _resume(context: Context) -> int:
    resume(context.directory())
    return 0


COMMAND = Command(
    "resume", "Let the processes of a paused container go on.", "resume ID", _resume, minimum=1, maximum=1
)
