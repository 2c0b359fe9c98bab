"""Open the writing side of a store: which kind of overlay its layers are for, and one seam for what the disk says."""

from __future__ import annotations

import os

from knarr.host.facts import in_initial_userns
from knarr.store.ingest import Limits, disk_trouble
from knarr.store.writer import Writer


def open_writer(root: str, *, userxattr: bool | None, limits: Limits | None) -> Writer:
    """Raises `HostError` when the store's directory cannot be written."""
    if userxattr is None:
        userxattr = os.geteuid() != 0 or not in_initial_userns()
    try:
        return Writer(root, userxattr=userxattr, limits=limits or Limits())
    except OSError as e:
        raise disk_trouble(f"store {root}", e) from e
