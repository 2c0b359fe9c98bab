"""The door of `knarr-runtime`: the global flags of runc and crun, the commands, and what an error ends with."""

from __future__ import annotations

import os
import sys

from knarr.cli.options import Command, HelpWanted, Option, Parsed, help_text, parse
from knarr.errors import KnarrError, UsageError
from knarr.runtime_cli.catalogue import COMMANDS
from knarr.runtime_cli.context import Context
from knarr.runtime_cli.log import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

GLOBAL_OPTIONS = (
    Option("root", "Directory of the containers", metavar="DIR"),
    Option("log", "Write errors and warnings to this file", metavar="FILE"),
    Option("log-format", "text or json", metavar="FORMAT", default="text"),
    Option("log-level", "Ignored: errors and warnings are what there is", metavar="LEVEL"),
    Option("debug", "Show the traceback of every error", kind="flag"),
    Option("systemd-cgroup", "Have systemd make the cgroups", kind="flag", short="s"),
    Option("cgroup-manager", "cgroupfs, systemd or disabled", metavar="NAME", default="cgroupfs"),
    Option("rootless", "auto, true or false: ignored, the kernel tells", metavar="WHEN", default="auto"),
    Option("criu", "The program that checkpoints (default: criu)", metavar="PATH"),
    Option("version", "Print the version", kind="flag", short="vV"),
)
# What runc ends with when it has understood `exec` and cannot do it: codes below are the process's own.
_EXEC_FAILED = 255
# In the words of crun, which engines look for.
_ABILITIES = "+SYSTEMD +SELINUX +APPARMOR +CAP +SECCOMP +EBPF +CRIU"
_INTERRUPTED = 130


def entry() -> None:
    """The console script."""
    from knarr.cli.main import leave

    leave(main, "knarr-runtime: error")


def main(argv: Sequence[str]) -> int:
    """Run one command; its exit code."""
    log, debug, name = Log(), False, ""
    try:
        try:
            parsed = parse(GLOBAL_OPTIONS, argv, stops_at_argument=True, one_dash=True)
        except HelpWanted:
            return _overview()
        debug = parsed.flag("debug")
        log = Log(parsed.text("log"), parsed.text("log-format"), debug=debug)
        if parsed.flag("version"):
            return _version()
        if not parsed.args or parsed.args == ("help",):
            return _overview()
        log.debug(" ".join(("knarr-runtime", *argv)))
        if parsed.args[0] == "help":
            return _help(_find(parsed.args[1]))
        command, context = _find(parsed.args[0]), _context(parsed, log)
        try:
            context.parsed = _understood(command, parsed.args[1:])
        except HelpWanted:
            return _help(command)
        name = command.name
        return command.run(context)
    except KnarrError as e:
        log.error(
            e.message, "" if "`knarr " in e.hint else e.hint
        )  # of the other command, which nobody called
        if debug:
            raise
        return _EXEC_FAILED if name == "exec" else 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open("/dev/null", os.O_WRONLY), 1)  # whoever reads has seen enough
        return 1
    except OSError as e:
        where = f"{e.filename}: " if e.filename else _gone()
        log.error(f"{where}{(e.strerror or str(e)).lower()}")
        if debug:
            raise
        return _EXEC_FAILED if name == "exec" else 1


def _gone() -> str:
    """The kernel does not say of what it speaks when the working directory has been removed."""
    try:
        os.getcwd()
    except OSError:
        return "the working directory: "
    return ""


def _context(parsed: Parsed, log: Log) -> Context:
    manager = parsed.text("cgroup-manager")
    if manager not in ("cgroupfs", "systemd", "disabled"):
        raise UsageError(f"invalid argument {manager!r} for --cgroup-manager: cgroupfs, systemd or disabled")
    return Context(
        root=os.path.abspath(parsed.text("root")) if parsed.text("root") else "",
        log=log,
        systemd_cgroup=parsed.flag("systemd-cgroup") or manager == "systemd",
        cgroups=manager != "disabled",
        criu=parsed.text("criu"),
    )


def _find(name: str) -> Command:
    if name not in COMMANDS:
        raise UsageError(f"{name!r} is not a knarr-runtime command", hint="see `knarr-runtime --help`")
    __import__(f"knarr.runtime_cli.commands.{name}")
    command = sys.modules[f"knarr.runtime_cli.commands.{name}"].COMMAND
    assert isinstance(command, Command)
    return command


def _understood(command: Command, words: Sequence[str]) -> Parsed:
    try:
        parsed = parse(command.options, words, stops_at_argument=command.stops_at_argument, one_dash=True)
    except UsageError as e:
        raise UsageError(e.message, hint=f"see `knarr-runtime {command.name} --help`") from None
    count = len(parsed.args)
    if count < command.minimum or (command.maximum >= 0 and count > command.maximum):
        raise UsageError(
            f"{command.name}: {count or 'no'} argument{'s' * (count != 1)} given",
            hint=f"usage: knarr-runtime {command.usage}",
        )
    return parsed


def _help(command: Command) -> int:
    print(help_text(command, "knarr-runtime"))
    return 0


def _version() -> int:
    from knarr import __version__
    from knarr.oci.spec import OCI_VERSION

    print(f"knarr-runtime version {__version__}\nspec: {OCI_VERSION}\n{_ABILITIES}")
    return 0


def _overview() -> int:
    width = max(map(len, COMMANDS))
    lines = ["Usage: knarr-runtime [OPTIONS] COMMAND", "", "An OCI runtime: bundles become containers.", ""]
    lines += ["Commands:", *(f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()), ""]
    options = help_text(Command("", "", "", lambda parsed: 0, GLOBAL_OPTIONS)).partition("Options:")[2]
    print("\n".join(lines) + f"\nOptions:{options}")
    return 0
