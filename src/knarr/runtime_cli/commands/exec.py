"""knarr-runtime exec"""

from __future__ import annotations

import os

from knarr.cli.options import Command, Option
from knarr.errors import UsageError
from knarr.host.launch import Attended
from knarr.oci.spec import Process
from knarr.runtime import descriptors
from knarr.runtime.exec import ExecRequest, executable_in, execute
from knarr.runtime.process import Changes, changed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.oci.spec import Spec
    from knarr.runtime_cli.context import Context


def _exec(context: Context) -> int:
    parsed = context.parsed
    directory = context.directory()
    container = executable_in(directory, ignore_paused=parsed.flag("ignore-paused"))
    spec = directory.spec()
    process = _process(context, spec)
    detached = parsed.flag("detach")
    socket = parsed.text("console-socket")
    if socket and not process.terminal:
        raise UsageError("--console-socket: the process has no terminal")
    if process.terminal and detached and not socket:
        raise UsageError("a detached process's terminal needs --console-socket")
    request = ExecRequest(
        pid_file=parsed.text("pid-file"),
        pidfd_socket=parsed.text("pidfd-socket"),
        preserve_fds=parsed.integer("preserve-fds") or 0,
        ignore_paused=parsed.flag("ignore-paused"),
        cgroups=parsed.many("cgroup"),
    )
    if process.terminal and not socket:
        from knarr.runtime.terminal import Relay

        relay = Relay()
        request = request._replace(console_fd=relay.console_fd, console_bare=True)
        return relay.attend(execute(container, spec, process, request, context.facts, context.log.warn))
    if socket:
        request = request._replace(console_fd=descriptors.connect(socket, "console socket"))
    if detached:
        context.log.leave_standard_error()
        execute(container, spec, process, request, context.facts, context.log.warn)
        return 0
    with Attended() as front:
        return front.wait(execute(container, spec, process, request, context.facts, context.log.warn))


def _process(context: Context, spec: Spec) -> Process:
    parsed = context.parsed
    if parsed.given("process"):
        from knarr.oci.document import decode
        from knarr.runtime.bundle import parsed as document
        from knarr.runtime.bundle import read_document

        if len(parsed.args) > 1:
            raise UsageError("exec: the command is in the file of --process: no other can be given")
        path = parsed.text("process")
        process = decode(Process, document(read_document(path), path))
        return process._replace(terminal=True) if parsed.flag("tty") else process
    if len(parsed.args) < 2:
        raise UsageError("exec: no command given", hint=f"usage: knarr-runtime {COMMAND.usage}")
    changes = Changes(
        parsed.args[1:],
        tty=parsed.flag("tty"),
        cwd=parsed.text("cwd"),
        env=tuple(_variable(word) for word in parsed.many("env")),
        user=parsed.text("user"),
        additional_gids=parsed.many("additional-gids"),
        caps=parsed.many("cap"),
        apparmor=parsed.text("apparmor"),
        label=parsed.text("process-label"),
        no_new_privs=parsed.flag("no-new-privs") if parsed.given("no-new-privs") else None,
    )
    return changed(spec.process or Process("/"), changes)


def _variable(word: str) -> str:
    """`NAME` alone takes our own environment's value."""
    return word if "=" in word else f"{word}={os.environ.get(word, '')}"


COMMAND = Command(
    "exec",
    "Start a process in a container.",
    "exec [OPTIONS] ID COMMAND [ARG...]",
    _exec,
    (
        Option("process", "A file with the process (config.md) as JSON", short="p", metavar="FILE"),
        Option("tty", "With a terminal of its own", kind="flag", short="t"),
        Option("detach", "Do not wait for its end", kind="flag", short="d"),
        Option("cwd", "Its working directory", metavar="DIR"),
        Option("env", "A variable of its environment", kind="many", short="e", metavar="NAME=VALUE"),
        Option("user", "Who it runs as", short="u", metavar="UID[:GID]"),
        Option("additional-gids", "Supplementary groups", kind="many", short="g", metavar="GID"),
        Option("cap", "One more capability", kind="many", short="c", metavar="NAME"),
        Option("no-new-privs", "It cannot gain privileges", kind="flag"),
        Option("apparmor", "Its AppArmor profile", metavar="NAME"),
        Option("process-label", "Its SELinux label", metavar="LABEL"),
        Option("console-socket", "Socket that takes the terminal's master", metavar="PATH"),
        Option("pid-file", "Write the process's id to this file", metavar="FILE"),
        Option("pidfd-socket", "Socket that takes a pidfd of the process", metavar="PATH"),
        Option("preserve-fds", "How many descriptors after the standard ones are passed on", metavar="N"),
        Option("cgroup", "A cgroup below the container's", kind="many", metavar="[CONTROLLER:]PATH"),
        Option("ignore-paused", "Also in a paused container", kind="flag"),
    ),
    minimum=1,
    stops_at_argument=True,
)
