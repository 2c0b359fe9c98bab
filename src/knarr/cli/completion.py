"""Completion scripts, printed from the commands' own tables so that they cannot disagree with the parser."""

from __future__ import annotations

import sys

from knarr.cli.options import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from knarr.cli.catalogue import Entry

_CONTAINERS = "attach exec inspect kill logs pause port rename restart rm start stop top unpause wait".split()
_IMAGES = "create rmi run save tag".split()


def script(shell: str, entries: Mapping[str, Entry]) -> str:
    """The script for `bash`, `zsh` or `fish`."""
    flags = {name: _flags(entry.module) for name, entry in entries.items()}
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](entries, flags)


def _flags(module: str) -> list[tuple[str, str]]:
    __import__(f"knarr.cli.commands.{module}")
    command = sys.modules[f"knarr.cli.commands.{module}"].COMMAND
    assert isinstance(command, Command)
    return [(o.name, o.help) for o in command.options]


def _bash(entries: Mapping[str, Entry], flags: dict[str, list[tuple[str, str]]]) -> str:
    cases = "\n".join(
        f"    {name}) words='{' '.join('--' + flag for flag, _ in flags[name])}' ;;" for name in entries
    )
    return f"""_knarr() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} command=${{COMP_WORDS[1]}} words=
  if [ "$COMP_CWORD" = 1 ]; then
    COMPREPLY=($(compgen -W '{" ".join(entries)}' -- "$cur")); return
  fi
  case $command in
{cases}
  esac
  case $cur in
    -*) ;;
    *) case $command in
      {"|".join(_CONTAINERS)}) words=$(knarr ps -a --format '{{{{.Names}}}}' 2>/dev/null) ;;
      {"|".join(_IMAGES)}) words=$(knarr images --format '{{{{.Repository}}}}:{{{{.Tag}}}}' 2>/dev/null) ;;
    esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}}
complete -o default -F _knarr knarr"""


def _zsh(entries: Mapping[str, Entry], flags: dict[str, list[tuple[str, str]]]) -> str:
    return "#compdef knarr\nautoload -U +X bashcompinit && bashcompinit\n" + _bash(entries, flags)


def _fish(entries: Mapping[str, Entry], flags: dict[str, list[tuple[str, str]]]) -> str:
    lines = ["complete -c knarr -f"]
    for name, entry in entries.items():
        lines.append(f"complete -c knarr -n __fish_use_subcommand -a {name} -d {_quoted(entry.summary)}")
        seen = f"-n '__fish_seen_subcommand_from {name}'"
        lines += [f"complete -c knarr {seen} -l {flag} -d {_quoted(text)}" for flag, text in flags[name]]
        if name in _CONTAINERS:
            lines.append(f"complete -c knarr {seen} -a \"(knarr ps -a --format '{{{{.Names}}}}')\"")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
