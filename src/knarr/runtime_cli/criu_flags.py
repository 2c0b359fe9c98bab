"""The flags that `checkpoint` and `restore` share, as runc and crun have them."""

from __future__ import annotations

import os

from knarr.cli.options import Option
from knarr.errors import UsageError
from knarr.runtime.criu_options import CGROUP_MODES, EMPTY_NAMESPACES, NETWORK_LOCKS, CriuFlags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.cli.options import Parsed

OPTIONS = (
    Option("image-path", "Directory of criu's images (default: ./checkpoint)", metavar="DIR"),
    Option("work-path", "Directory of its log (default: that of the images)", metavar="DIR"),
    Option("tcp-established", "Also with open TCP connections", kind="flag"),
    Option("ext-unix-sk", "Also with Unix sockets connected to the outside", kind="flag"),
    Option("shell-job", "Also when it belongs to a session of the outside", kind="flag"),
    Option("file-locks", "Also with locks on files", kind="flag"),
    Option("lazy-pages", "Memory is fetched when it is used (userfaultfd)", kind="flag"),
    Option("auto-dedup", "Memory that is written anew goes from the earlier images", kind="flag"),
    Option(
        "manage-cgroups-mode", "What of its cgroups comes back", metavar="MODE", default="soft",
        choices=tuple(CGROUP_MODES),
    ),
    Option("network-lock", "How connections are kept still meanwhile", metavar="HOW", choices=tuple(NETWORK_LOCKS)),
    Option("empty-ns", "Leave out what is in this namespace: network", kind="many", metavar="KIND"),
)  # fmt: skip


def criu_flags(parsed: Parsed) -> CriuFlags:
    """Raises `UsageError`."""
    empty = parsed.many("empty-ns")
    if unknown := [kind for kind in empty if kind not in EMPTY_NAMESPACES]:
        raise UsageError(f"--empty-ns: {unknown[0]!r} cannot be left out: only network can")
    return CriuFlags(
        os.path.abspath(parsed.text("image-path") or "checkpoint"),
        os.path.abspath(parsed.text("work-path")) if parsed.text("work-path") else "",
        parsed.flag("tcp-established"),
        parsed.flag("ext-unix-sk"),
        parsed.flag("shell-job"),
        parsed.flag("file-locks"),
        parsed.flag("auto-dedup"),
        parsed.flag("lazy-pages"),
        parsed.text("manage-cgroups-mode"),
        parsed.text("network-lock"),
        empty,
    )
