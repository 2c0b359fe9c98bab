"""knarr logout"""

from __future__ import annotations

from knarr.cli.options import Command, Parsed


def _logout(parsed: Parsed) -> int:
    from knarr.engine.login import domain_of, logout

    server = parsed.args[0] if parsed.args else ""
    known = logout(server)
    print(
        f"Removing login credentials for {domain_of(server)}"
        if known
        else f"Not logged in to {domain_of(server)}"
    )
    return 0


COMMAND = Command(
    "logout",
    "Forget the login to a registry, docker.io if none is named.",
    "logout [SERVER]",
    _logout,
    maximum=1,
)
