"""knarr-runtime run"""

from __future__ import annotations

import os

from knarr.cli.options import Command, Option
from knarr.host.launch import Attended
from knarr.runtime.create import create
from knarr.runtime.start import poststart
from knarr.runtime_cli.making import OPTIONS, bundle_of, ended, request_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.runtime.bundle import Bundle
    from knarr.runtime.create import CreateRequest
    from knarr.runtime_cli.context import Context


def _run(context: Context) -> int:
    bundle = bundle_of(context)
    detached = context.parsed.flag("detach")
    request = request_of(context, bundle, detached=detached)._replace(waits=False)
    if not detached and bundle.spec.process and bundle.spec.process.terminal:
        return _at_terminal(context, bundle, request)
    if detached:
        context.log.leave_standard_error()
        created = create(request, bundle, context.facts, context.log.warn)
        poststart(created.directory, created.container, bundle.spec.hooks, context.log.warn)
        if created.notices:
            os.close(created.lock)  # it may take as long as it likes
            created.notices.wait(created.container, created.container.pid, context.log.warn)
        return 0
    with Attended() as front:
        created = create(request, bundle, context.facts, context.log.warn)
        if created.notices:
            created.notices.attend(created.container, context.log.warn)
        poststart(created.directory, created.container, bundle.spec.hooks, context.log.warn)
        os.close(created.lock)  # others may do something with it while it runs
        code = front.wait(created.container.pid)
    return ended(context, bundle, created, code)


def _at_terminal(context: Context, bundle: Bundle, request: CreateRequest) -> int:
    from knarr.runtime.terminal import Relay

    relay = Relay()
    created = create(
        request._replace(console_fd=relay.console_fd, console_bare=True),
        bundle,
        context.facts,
        context.log.warn,
    )
    if created.notices:
        created.notices.attend(created.container, context.log.warn)
    poststart(created.directory, created.container, bundle.spec.hooks, context.log.warn)
    os.close(created.lock)
    return ended(context, bundle, created, relay.attend(created.container.pid))


COMMAND = Command(
    "run",
    "Create a container, start it, and remove it when it has ended.",
    "run [OPTIONS] ID",
    _run,
    (
        *OPTIONS,
        Option("detach", "Leave it running, and do not wait for its end", kind="flag", short="d"),
        Option("keep", "Do not remove it when it has ended", kind="flag"),
        Option("no-subreaper", "Ignored: this process is none", kind="flag"),
    ),
    minimum=1,
    maximum=1,
)
