"""What every command of `knarr-runtime` is called with: its words, the global flags, and where things are."""

from __future__ import annotations

import os

from knarr.errors import UsageError
from knarr.host.facts import read_facts
from knarr.runtime.state_dir import StateDir, container_ids, default_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.cli.options import Parsed
    from knarr.plan.facts import HostFacts
    from knarr.runtime_cli.log import Log


class Context:
    __slots__ = ("_facts", "cgroups", "criu", "log", "parsed", "root", "root_given", "systemd_cgroup")

    parsed: Parsed

    def __init__(self, *, root: str, log: Log, systemd_cgroup: bool, cgroups: bool, criu: str) -> None:
        self.root_given = bool(root)
        self.root = root or default_root(os.environ, os.geteuid())
        self.log = log
        self.systemd_cgroup = systemd_cgroup
        self.cgroups = cgroups
        self.criu = criu
        self._facts: HostFacts | None = None

    @property
    def facts(self) -> HostFacts:
        """This machine; without its cgroups when they are not to be used."""
        if self._facts is None:
            facts = read_facts()
            self._facts = facts if self.cgroups else facts._replace(cgroups_v1=(), cgroup_v2=None)
        return self._facts

    def directory(self) -> StateDir:
        """The container that the command's first argument names."""
        return StateDir(self.root, self.parsed.args[0])

    def directories(self) -> list[StateDir]:
        """That one, or with `--regex` all whose id the argument is found in. Raises `UsageError`."""
        if not self.parsed.flag("regex"):
            return [self.directory()]
        import re

        try:
            pattern = re.compile(self.parsed.args[0])
        except re.error as e:
            raise UsageError(f"invalid pattern {self.parsed.args[0]!r}: {e}") from None
        return [StateDir(self.root, name) for name in container_ids(self.root) if pattern.search(name)]
