"""What `create`, `run` and `restore` share: their flags, and the request made from them."""

from __future__ import annotations

import os

from knarr.cli.options import Option
from knarr.errors import UsageError
from knarr.runtime import descriptors
from knarr.runtime.bundle import Bundle, read_bundle
from knarr.runtime.create import CreateRequest
from knarr.runtime.delete import after_its_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.runtime.create import Created
    from knarr.runtime.restore import Restored
    from knarr.runtime_cli.context import Context

CONFIG = Option("config", "Another configuration's path", short="f", metavar="FILE", default="config.json")
BUNDLE_OPTIONS = (
    Option("bundle", "Directory with config.json (default: the working directory)", short="b", metavar="DIR"),
    CONFIG,
)
OPTIONS = (
    *BUNDLE_OPTIONS,
    Option("console-socket", "Socket that takes the terminal's master", metavar="PATH"),
    Option("pid-file", "Write the process's id to this file", metavar="FILE"),
    Option("pidfd-socket", "Socket that takes a pidfd of the process", metavar="PATH"),
    Option("preserve-fds", "How many descriptors after the standard ones are passed on", metavar="N"),
    Option("no-pivot", "Move the root instead of pivot_root, for a root on a ramdisk", kind="flag"),
    Option("no-new-keyring", "Stay in the caller's session keyring", kind="flag"),
)


def bundle_of(context: Context) -> Bundle:
    return read_bundle(context.parsed.text("bundle") or os.getcwd(), context.parsed.text("config"))


def request_of(context: Context, bundle: Bundle, *, detached: bool) -> CreateRequest:
    """Raises `UsageError` for a terminal without a place to go, or a place without a terminal."""
    parsed = context.parsed
    process = bundle.spec.process
    terminal = process is not None and process.terminal
    socket = parsed.text("console-socket")
    if socket and not (terminal and detached):
        raise UsageError(
            "--console-socket: the container is not detached, or has no terminal (process.terminal)"
        )
    if terminal and detached and not socket:
        raise UsageError("process.terminal: a detached container's terminal needs --console-socket")
    listening = descriptors.listening(os.environ)
    return CreateRequest(
        id=parsed.args[0],
        root=context.root,
        console_fd=descriptors.connect(socket, "console socket") if socket else -1,
        pid_file=parsed.text("pid-file"),
        pidfd_socket=parsed.text("pidfd-socket"),
        preserve_fds=(parsed.integer("preserve-fds") or 0) + listening,
        listen_fds=listening,
        no_pivot=parsed.flag("no-pivot"),
        new_keyring=not parsed.flag("no-new-keyring"),
        systemd_cgroup=context.systemd_cgroup,
        notify_socket=os.environ.get("NOTIFY_SOCKET", ""),
    )


def ended(context: Context, bundle: Bundle, made: Created | Restored, code: int) -> int:
    """A container that was waited for in front goes with its process, unless it is to be kept; the exit code."""
    if not context.parsed.flag("keep"):
        after_its_end(made.directory, made.container, bundle.spec.hooks, context.log.warn)
    return code
