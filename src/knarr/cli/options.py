"""The command line's parser: docker's grammar at the price of a dictionary.

`argparse` costs 9 ms to import and 5 more to fill with `run`'s flags; this costs neither. A command is a
value (`Command`) that its file defines; help and completion are printed from the same value.

Grammar: `--name value`, `--name=value`, `-x value`, `-xvalue`, `-x=value`, short flags joined (`-it`), `--flag=false`,
`--` ends the flags. Commands that take another command's words (`run`, `exec`, `create`) stop at their first argument.
With `one_dash` also `-name value`, `-name=value` and `--x value`: Go's grammar, which is runc's. A whole name goes
before short flags joined.
"""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))


class Option(Record):
    """One flag. `kind` is `flag` (no value), `text` (the last one wins) or `many` (each one counts).

    Each letter of `short` is one; help shows the first.
    """

    name: str
    help: str
    kind: str = "text"
    short: str = ""
    metavar: str = "VALUE"
    default: str = ""
    choices: tuple[str, ...] = ()


class Parsed:
    """What was given. Asking for an option the command does not have is a `KeyError`, our bug."""

    __slots__ = ("_options", "_values", "args")

    def __init__(self, options: dict[str, Option]) -> None:
        self._options = options
        self._values: dict[str, str | bool | list[str]] = {}
        self.args: tuple[str, ...] = ()

    def given(self, name: str) -> bool:
        """Was the flag on the command line at all."""
        return self._options[name].name in self._values

    def text(self, name: str) -> str:
        value = self._values.get(name)
        return value if isinstance(value, str) else self._options[name].default

    def flag(self, name: str) -> bool:
        value = self._values.get(name)
        return value if isinstance(value, bool) else self._options[name].default == "true"

    def many(self, name: str) -> tuple[str, ...]:
        value = self._values.get(name)
        return tuple(value) if isinstance(value, list) else ()

    def integer(self, name: str) -> int | None:
        """The option as a whole number, `None` when it was not given."""
        text = self.text(name)
        if not text:
            return None
        try:
            return int(text)
        except ValueError:
            raise UsageError(f"invalid argument {text!r} for --{name}: not a whole number") from None

    def put(self, option: Option, value: str | bool) -> None:
        if option.kind == "many":
            values = self._values.setdefault(option.name, [])
            if isinstance(values, list) and isinstance(value, str):
                values.append(value)
        else:
            self._values[option.name] = value


class Command(Record):
    """A command: its words, its flags, and the function that does it. `maximum` -1: any number of arguments.

    What `run` is called with is the door's: the parsed words, or a context that has them.
    """

    name: str
    summary: str
    usage: str
    run: Callable[..., int]
    options: tuple[Option, ...] = ()
    minimum: int = 0
    maximum: int = -1
    stops_at_argument: bool = False
    aliases: tuple[str, ...] = ()


class HelpWanted(Exception):  # not an error: `--help` was given
    """Raised by `parse` for `--help`."""


def parse(
    options: Iterable[Option], words: Sequence[str], *, stops_at_argument: bool, one_dash: bool = False
) -> Parsed:
    """The flags and arguments in `words`. Raises `UsageError`, or `HelpWanted` for `--help`."""
    names: dict[str, Option] = {}
    shorts: dict[str, Option] = {}
    for option in options:
        names[option.name] = option
        for letter in option.short:
            shorts[letter] = option
    if one_dash:
        names.update(shorts)
    parsed = Parsed(names)
    args: list[str] = []
    i, count = 0, len(words)
    while i < count:
        word = words[i]
        i += 1
        if word == "--":
            args += words[i:]
            break
        if word[:2] == "--":
            i = _long(parsed, names, word, words, i)
        elif one_dash and word[:1] == "-" and word[1:].partition("=")[0] in names:
            i = _long(parsed, names, f"-{word}", words, i)
        elif word[:1] == "-" and len(word) > 1:
            i = _short(parsed, shorts, word, words, i)
        elif stops_at_argument:
            args += words[i - 1 :]
            break
        else:
            args.append(word)
    parsed.args = tuple(args)
    return parsed


def _long(parsed: Parsed, names: dict[str, Option], word: str, words: Sequence[str], i: int) -> int:
    name, equals, value = word[2:].partition("=")
    option = names.get(name)
    if option is None:
        if name == "help":
            raise HelpWanted
        raise UsageError(f"unknown flag: --{name}")
    if option.kind == "flag":
        parsed.put(option, _truth(option, value) if equals else True)
        return i
    if not equals:
        if i >= len(words):
            raise UsageError(f"flag needs an argument: --{name}")
        value = words[i]
        i += 1
    parsed.put(option, _chosen(option, value))
    return i


def _short(parsed: Parsed, shorts: dict[str, Option], word: str, words: Sequence[str], i: int) -> int:
    rest = word[1:]
    while rest:
        letter, rest = rest[0], rest[1:]
        option = shorts.get(letter)
        if option is None:
            if letter in ("h", "?"):
                raise HelpWanted
            raise UsageError(f"unknown shorthand flag: {letter!r} in {word}")
        if option.kind == "flag":
            if rest[:1] == "=":
                parsed.put(option, _truth(option, rest[1:]))
                return i
            parsed.put(option, True)
            continue
        if rest:
            value = rest.removeprefix("=")
        elif i < len(words):
            value = words[i]
            i += 1
        else:
            raise UsageError(f"flag needs an argument: {letter!r} in {word}")
        parsed.put(option, _chosen(option, value))
        return i
    return i


def _truth(option: Option, value: str) -> bool:
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise UsageError(f"invalid argument {value!r} for --{option.name}: not true or false")


def _chosen(option: Option, value: str) -> str:
    if option.choices and value not in option.choices:
        raise UsageError(
            f"invalid argument {value!r} for --{option.name}: must be one of {', '.join(option.choices)}"
        )
    return value


def help_text(command: Command, program: str = "knarr") -> str:
    """What `knarr COMMAND --help` prints."""
    lines = [f"Usage: {program} {command.usage}", "", command.summary]
    if command.aliases:
        lines += ["", f"Aliases: {', '.join((command.name, *command.aliases))}"]
    if command.options:
        heads = [_head(o) for o in command.options]
        width = max(len(h) for h in heads)
        lines += ["", "Options:"]
        lines += [
            f"  {head:<{width}}  {option.help}{f' (default {option.default})' if option.default else ''}"
            for head, option in zip(heads, command.options, strict=True)
        ]
    return "\n".join(lines)


def _head(option: Option) -> str:
    short = f"-{option.short[0]}, " if option.short else "    "
    value = "" if option.kind == "flag" else f" {option.metavar}"
    return f"{short}--{option.name}{value}"
