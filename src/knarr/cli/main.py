"""The door of the command line: find the command, run it, turn an error into a line and an exit code.

Nothing else in knarr calls `sys.exit` or prints an error. Finding a command imports that command's file only.
"""

from __future__ import annotations

import _signal
import os
import sys
from _io import TextIOWrapper

from knarr.cli.catalogue import COMMANDS, GROUPS
from knarr.cli.options import Command, HelpWanted, Option, help_text, parse
from knarr.cli.visible import visible
from knarr.errors import CommandNotExecutable, CommandNotFound, KnarrError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GLOBAL_OPTIONS = (
    Option("root", "Directory of images and containers", metavar="DIR"),
    Option("run-root", "Directory of what is running", metavar="DIR"),
    Option("debug", "Show the traceback of every error", kind="flag", short="D"),
    Option("version", "Print the version", kind="flag", short="v"),
)
# What docker's client exits with: these commands speak of a container's own exit code, so theirs starts at 125.
_CONTAINER_CODES = frozenset(("run", "create", "start", "exec"))
_INTERRUPTED = 130


def entry() -> None:
    """The console script."""
    leave(main)


def leave(main: Callable[[Sequence[str]], int], program: str = "knarr") -> None:
    """Run a door's main and end with its code, by `os._exit`: finalising the interpreter costs 3 ms for nothing."""
    code = _INTERRUPTED
    try:
        if _signal.getsignal(_signal.SIGINT) == _signal.SIG_DFL:
            _signal.signal(_signal.SIGINT, _signal.default_int_handler)  # from here on somebody catches it
        if isinstance(sys.stdout, TextIOWrapper):
            # Half a character in a label is no reason to fail.
            sys.stdout.reconfigure(errors="backslashreplace")
        code = main(sys.argv[1:])
        lost = _output_error()
        if lost is not None:
            code = code or 1
            if not isinstance(lost, BrokenPipeError):
                complain(_about_output(lost), program)
    except KeyboardInterrupt:
        pass  # outside of `main`, or while it told of another error
    os._exit(code)


def _output_error() -> OSError | None:
    """Why standard output did not take what is still to be written; `None` when it did."""
    try:
        sys.stdout.flush()
    except OSError as e:
        return e
    return None


def _about_output(e: OSError) -> KnarrError:
    return KnarrError(f"standard output: {os.strerror(e.errno or 0).lower()}")


def _drop_output() -> None:
    """What is still to be written has nowhere to go, and must not fail a second time."""
    os.dup2(os.open("/dev/null", os.O_WRONLY), 1)


def main(argv: Sequence[str]) -> int:
    """Run one command; its exit code."""
    name = ""
    debug = "KNARR_DEBUG" in os.environ
    try:
        try:
            parsed = parse(GLOBAL_OPTIONS, argv, stops_at_argument=True)
        except HelpWanted:
            return _overview()
        debug = debug or parsed.flag("debug")
        for option, variable in (("root", "KNARR_ROOT"), ("run-root", "KNARR_RUN")):
            if parsed.given(option):
                os.environ[variable] = os.path.abspath(parsed.text(option))
        if parsed.flag("version"):
            return _run(_find("version"), ("--short",))
        if not parsed.args or parsed.args == ("help",):
            return _overview()
        name = parsed.args[0]
        if name == "help":
            name = parsed.args[1]
            print(help_text(_find(name)))
            return 0
        words = parsed.args[1:]
        if name in GROUPS and words and words[0] in GROUPS[name]:
            name, words = GROUPS[name][words[0]], words[1:]
        return _run(_find(name), words)
    except KnarrError as e:
        if debug:
            raise
        complain(e)
        return exit_code(e, name)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return 1
    except OSError as e:
        # The disk is full, a file may not be read: the host's trouble, not ours; --debug shows where.
        if debug:
            raise
        lost = _output_error()
        if lost is not None:
            _drop_output()
            complain(_about_output(lost))
        else:
            where = f"{e.filename}: " if e.filename else ""
            complain(KnarrError(f"{where}{(e.strerror or str(e)).lower()}"))
        return exit_code(KnarrError(""), name)


def _overview() -> int:
    from knarr.cli.overview import overview

    print(overview(GLOBAL_OPTIONS))
    return 0


def _find(name: str) -> Command:
    module = COMMANDS.get(name)
    if module is None:
        raise UsageError(f"{name!r} is not a knarr command", hint="see `knarr --help`")
    __import__(f"knarr.cli.commands.{module.module}")
    command = sys.modules[f"knarr.cli.commands.{module.module}"].COMMAND
    assert isinstance(command, Command)
    return command


def _run(command: Command, words: Sequence[str]) -> int:
    try:
        parsed = parse(command.options, words, stops_at_argument=command.stops_at_argument)
    except HelpWanted:
        print(help_text(command))
        return 0
    except UsageError as e:
        raise UsageError(e.message, hint=f"see `knarr {command.name} --help`") from None
    count = len(parsed.args)
    if count < command.minimum or (command.maximum >= 0 and count > command.maximum):
        raise UsageError(
            f"{command.name}: {_arity(command)}, {count or 'none'} given",
            hint=f"usage: knarr {command.usage}",
        )
    return command.run(parsed)


def _arity(command: Command) -> str:
    low, high = command.minimum, command.maximum
    if low == high:
        return f"takes {low or 'no'} argument{'s' * (low != 1)}"
    return (
        f"takes at least {low} argument{'s' * (low != 1)}" if high < 0 else f"takes {low} to {high} arguments"
    )


def complain(error: KnarrError, program: str = "knarr") -> None:
    """One line on standard error, and one with the hint. Nothing when the cause has been told already."""
    if not error.message:
        return
    text = f"{program}: {visible(error.message)}\n"
    if error.hint:
        text += f"  {visible(error.hint)}\n"
    os.write(2, text.encode("utf-8", "backslashreplace"))


def exit_code(error: KnarrError, command: str) -> int:
    """The exit code of an error (the command line's one table)."""
    if isinstance(error, (CommandNotFound, CommandNotExecutable)):
        return error.exit_code
    if command in _CONTAINER_CODES:
        return error.exit_code
    return 125 if isinstance(error, UsageError) and not command else 1
