"""Commands that write to the store: a user's own copy of them runs as root of a user namespace.

Layers hold files of many users; only there can they be made, and removed again, as theirs.
"""

from __future__ import annotations

from knarr.cli.warnings import warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.engine.engine import Engine


def enter(engine: Engine) -> None:
    """For an ordinary user: start over inside the namespace, and exit as that does. For root: nothing."""
    facts = engine.facts
    if facts.euid == 0:
        return
    from knarr.host.userns import reexec_in_userns, single_id_warning

    cost = single_id_warning(facts)
    if cost:
        warn(cost)
    engine.prepare_directories()
    reexec_in_userns(facts)
