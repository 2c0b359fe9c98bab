"""knarr-runtime restore"""

from __future__ import annotations

import os

from knarr.cli.options import Command, Option
from knarr.errors import UsageError
from knarr.host.launch import Attended
from knarr.runtime import descriptors
from knarr.runtime.restore import RestoreRequest, restore
from knarr.runtime_cli.criu_flags import OPTIONS, criu_flags
from knarr.runtime_cli.making import BUNDLE_OPTIONS, bundle_of, ended

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.runtime_cli.context import Context


def _restore(context: Context) -> int:
    parsed = context.parsed
    bundle = bundle_of(context)
    detached = parsed.flag("detach")
    terminal = bundle.spec.process is not None and bundle.spec.process.terminal
    socket = parsed.text("console-socket")
    if socket and not terminal:
        raise UsageError("--console-socket: the container has no terminal (process.terminal)")
    request = RestoreRequest(
        parsed.args[0],
        context.root,
        criu_flags(parsed),
        criu=context.criu,
        pid_file=parsed.text("pid-file"),
        console_fd=descriptors.connect(socket, "console socket") if socket else -1,
        systemd_cgroup=context.systemd_cgroup,
        tcp_close=parsed.flag("tcp-close"),
        lsm_profile=parsed.text("lsm-profile"),
        lsm_mount_context=parsed.text("lsm-mount-context"),
    )
    if detached:
        restore(request, bundle, context.facts, context.log.warn)
        return 0
    if terminal and not socket:
        from knarr.runtime.terminal import Relay

        relay = Relay()
        request = request._replace(console_fd=relay.console_fd)
        restored = restore(request, bundle, context.facts, context.log.warn)
        os.close(restored.lock)
        return ended(context, bundle, restored, relay.attend(restored.container.pid))
    with Attended() as front:
        restored = restore(request, bundle, context.facts, context.log.warn)
        os.close(restored.lock)
        code = front.wait(restored.container.pid)
    return ended(context, bundle, restored, code)


COMMAND = Command(
    "restore",
    "Let a container go on that `checkpoint` has written to disk.",
    "restore [OPTIONS] ID",
    _restore,
    (
        *BUNDLE_OPTIONS,
        *OPTIONS,
        Option("detach", "Leave it running, and do not wait for its end", kind="flag", short="d"),
        Option("keep", "Do not remove it when it has ended", kind="flag"),
        Option("pid-file", "Write the process's id to this file", metavar="FILE"),
        Option("console-socket", "Socket that takes the terminal's master", metavar="PATH"),
        Option("tcp-close", "TCP connections come back closed", kind="flag"),
        Option("lsm-profile", "Its security profile, now", metavar="TYPE:NAME"),
        Option("lsm-mount-context", "Its mounts' security context, now", metavar="CONTEXT"),
        Option("no-pivot", "Ignored: criu enters the root", kind="flag"),
        Option("no-subreaper", "Ignored: this process is none", kind="flag"),
    ),
    minimum=1,
    maximum=1,
)
