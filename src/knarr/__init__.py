"""knarr: containers without a daemon. `Engine` is the library's door; names are imported when they are first used."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.engine.engine import Engine as Engine
    from knarr.engine.options import ContainerOptions as ContainerOptions
    from knarr.errors import KnarrError as KnarrError

__version__ = "0.1.0"
__all__ = ["ContainerOptions", "Engine", "KnarrError", "__version__"]

_OFFERED = {
    "Engine": "knarr.engine.engine",
    "ContainerOptions": "knarr.engine.options",
    "KnarrError": "knarr.errors",
}


def __getattr__(name: str) -> object:
    if name not in _OFFERED:
        raise AttributeError(f"module 'knarr' has no attribute {name!r}")
    import sys

    __import__(_OFFERED[name])
    return getattr(sys.modules[_OFFERED[name]], name)
