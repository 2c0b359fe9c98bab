"""knarr completion"""

from __future__ import annotations

from knarr.cli.catalogue import COMMANDS
from knarr.cli.options import Command, Parsed
from knarr.errors import UsageError


def _completion(parsed: Parsed) -> int:
    from knarr.cli.completion import script

    shell = parsed.args[0]
    if shell not in ("bash", "zsh", "fish"):
        raise UsageError(f"no completion for {shell!r}", hint="there is bash, zsh and fish")
    print(script(shell, COMMANDS))
    return 0


COMMAND = Command(
    "completion",
    "Print a shell's completion script.",
    "completion bash|zsh|fish",
    _completion,
    minimum=1,
    maximum=1,
)
