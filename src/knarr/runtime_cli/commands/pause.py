"""knarr-runtime pause"""

from __future__ import annotations

from knarr.cli.options import Command
from knarr.runtime.pause import pause

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.runtime_cli.context import Context


def _pause(context: Context) -> int:
    pause(context.directory())
    return 0


COMMAND = Command("pause", "Freeze all processes of a container.", "pause ID", _pause, minimum=1, maximum=1)
