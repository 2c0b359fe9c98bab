"""knarr-runtime start"""

from __future__ import annotations

import os

from knarr.cli.options import Command
from knarr.runtime.start import start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.runtime_cli.context import Context


def _start(context: Context) -> int:
    start(context.directory(), context.log.warn, os.environ.get("NOTIFY_SOCKET", ""))
    return 0


COMMAND = Command("start", "Start a container that was created.", "start ID", _start, minimum=1, maximum=1)
