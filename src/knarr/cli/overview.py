"""What `knarr --help` prints."""

from __future__ import annotations

from knarr.cli.catalogue import COMMANDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from knarr.cli.options import Option


def overview(options: Iterable[Option]) -> str:
    """Usage, every command by group, the global flags."""
    lines = ["Usage: knarr [OPTIONS] COMMAND", "", "Containers without a daemon."]
    for group in ("containers", "images", "system"):
        lines += ["", f"{group.capitalize()}:"]
        lines += [f"  {name:<12}{entry.summary}" for name, entry in COMMANDS.items() if entry.group == group]
    lines += ["", "Options:"]
    lines += [f"  --{o.name + (' ' + o.metavar if o.kind != 'flag' else ''):<16}{o.help}" for o in options]
    lines += ["", "`knarr COMMAND --help` says more about a command."]
    return "\n".join(lines)
