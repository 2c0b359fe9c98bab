"""knarr-runtime state"""

from __future__ import annotations

from knarr.cli.options import Command
from knarr.cli.pretty import pretty
from knarr.runtime.listing import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.runtime_cli.context import Context


def _state(context: Context) -> int:
    print(pretty(describe(context.directory())))
    return 0


COMMAND = Command("state", "Show the state of a container as JSON.", "state ID", _state, minimum=1, maximum=1)
