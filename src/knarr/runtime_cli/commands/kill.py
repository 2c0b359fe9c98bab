"""knarr-runtime kill"""

from __future__ import annotations

from knarr.cli.options import Command, Option
from knarr.runtime.kill import kill

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.runtime_cli.context import Context


def _kill(context: Context) -> int:
    from knarr.host import signals

    words = context.parsed.args
    word = (words[1] if len(words) > 1 else "") or "TERM"
    number = 0 if word == "0" else signals.number(word)  # kill(2): 0 only asks
    for directory in context.directories():
        kill(directory, number, everything=context.parsed.flag("all"))
    return 0


COMMAND = Command(
    "kill",
    "Send a signal (default: TERM) to a container's first process.",
    "kill [OPTIONS] ID [SIGNAL]",
    _kill,
    (
        Option("all", "Send it to all processes of the container", kind="flag", short="a"),
        Option("regex", "To all containers whose id the pattern is found in", kind="flag", short="r"),
    ),
    minimum=1,
    maximum=2,
)
