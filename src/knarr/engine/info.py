"""`knarr info`: the engine's own numbers over the machine's facts."""

from __future__ import annotations

from knarr import __version__
from knarr.engine.listing import Filters, summaries
from knarr.engine.state import PAUSED
from knarr.host.info import machine_info
from knarr.host.machine import this_machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.engine.engine import Engine


def info(engine: Engine) -> dict[str, object]:
    """Names and values, in the order they are printed."""
    states = [row.state for row in summaries(engine, everything=True, filters=Filters(()))]
    paused = sum(state.status == PAUSED for state in states)
    running = sum(state.running for state in states) - paused
    return {
        "version": __version__,
        "containers": {
            "running": running,
            "paused": paused,
            "stopped": len(states) - running - paused,
        },
        "images": len(engine.store.images()),
        **machine_info(this_machine(engine.facts, engine.paths)),
    }
