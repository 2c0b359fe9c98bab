"""Engine: one user's containers and images on this machine. The door of the library and of every command.

Each verb lives in a file of its own and is imported when it is first used: opening an engine costs two dictionaries.
"""

from __future__ import annotations

import os

from knarr.host.paths import default_paths, make_directories

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.host.paths import Paths
    from knarr.plan.facts import HostFacts
    from knarr.store.store import Store


class Engine:
    """What the verbs of `knarr.engine` work on. Cheap; nothing is read or made until it is needed."""

    __slots__ = ("_facts", "_store", "paths")

    def __init__(self, paths: Paths | None = None) -> None:
        self.paths = paths or default_paths(os.geteuid(), os.environ)
        self._facts: HostFacts | None = None
        self._store: Store | None = None

    @property
    def facts(self) -> HostFacts:
        """This machine, read once."""
        if self._facts is None:
            from knarr.host.facts import read_facts

            self._facts = read_facts()
        return self._facts

    @property
    def store(self) -> Store:
        """Images and layers."""
        if self._store is None:
            from knarr.store.store import Store

            self._store = Store(self.paths.root)
        return self._store

    def prepare_directories(self) -> None:
        """Make the trees of `knarr.host.paths` where they are missing. Raises `HostError`."""
        make_directories(self.paths)
