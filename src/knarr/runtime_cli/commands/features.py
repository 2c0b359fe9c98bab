"""knarr-runtime features"""

from __future__ import annotations

from knarr import __version__
from knarr.cli.options import Command
from knarr.cli.pretty import pretty
from knarr.runtime.features import features

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.runtime_cli.context import Context


def _features(context: Context) -> int:
    print(pretty(features(__version__)))
    return 0


COMMAND = Command("features", "Show what this runtime can do, as JSON.", "features", _features, maximum=0)
