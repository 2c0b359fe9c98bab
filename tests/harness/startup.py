"""What must not be imported by the commands that someone waits for.

The figures beside the names are milliseconds added to an interpreter that takes nine, on the machine where the list was
drawn up.
"""

from __future__ import annotations

HEAVY = (
    "typing enum re dataclasses functools contextlib collections inspect datetime "  # 4, 5.6, 7, 12-18 …
    "json argparse logging subprocess threading pathlib shutil tempfile ctypes sqlite3 "  # 9, 14, 15, 10, 6, 6 …
    "signal socket selectors queue concurrent.futures asyncio multiprocessing "  # 6 each for enum, 41-62
    "ssl urllib urllib.parse urllib.request http http.client email urllib3 msgspec rich isal jeepney "  # 20, 74, 21, 53
    "importlib.metadata importlib.resources pkgutil platform locale gettext textwrap string decimal random "
    "knarr.registry knarr.host.doctor knarr.host.systemd"
).split()
