"""knarr attach"""

from __future__ import annotations

import os

from knarr.cli.options import Command, Option, Parsed
from knarr.engine.container_dir import find
from knarr.engine.engine import Engine
from knarr.errors import Conflict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.engine.container_dir import ContainerDir


def _attach(parsed: Parsed) -> int:
    directory = find(Engine().paths, parsed.args[0])
    return attach(directory, parsed, stdin=not parsed.flag("no-stdin"))


def attach(directory: ContainerDir, parsed: Parsed, *, stdin: bool) -> int:
    """Become the foreground of a running container; `parsed` has the flags of `attach`. Raises `Conflict`."""
    from knarr.cli.detach_keys import to_hex
    from knarr.engine import monitor
    from knarr.engine.state import PAUSED, read_state

    state = read_state(directory)
    if state.status == PAUSED:
        raise Conflict(
            f"container {parsed.args[0]} is paused",
            hint=f"let it go on with `knarr unpause {parsed.args[0]}`",
        )
    if not state.running:
        raise Conflict(
            f"container {parsed.args[0]} is not running", hint=f"start it with `knarr start {parsed.args[0]}`"
        )
    try:
        connection = monitor.connect(f"{directory.run}/attach")
    except OSError as e:
        raise Conflict(
            f"container {parsed.args[0]} cannot be attached to: {(e.strerror or str(e)).lower()}"
        ) from e
    options = directory.config().options
    words = monitor.front_words(
        tty=options.tty and os.isatty(0),
        stdin=options.stdin and stdin,
        keys=to_hex(parsed.text("detach-keys")),
        sig_proxy=parsed.flag("sig-proxy"),
    )
    monitor.become_front(connection, words)
    return 125


COMMAND = Command(
    "attach",
    "Connect the terminal to a running container.",
    "attach [OPTIONS] CONTAINER",
    _attach,
    (
        Option("detach-keys", "Keys that leave the container running", default="ctrl-p,ctrl-q"),
        Option("no-stdin", "Do not attach standard input", "flag"),
        Option("sig-proxy", "Pass signals on to the container", "flag", default="true"),
    ),
    minimum=1,
    maximum=1,
)
