"""`--format`: the part of Go's templates that people use: `{{.A.B}}`, `{{json .A}}`, `{{index .A 1}}`, text around.

For lists also `{{.Label "KEY"}}`, and docker's `table …`: columns between tabs, under their heads.
"""

from __future__ import annotations

import os

from knarr.cli.table import table
from knarr.cli.visible import visible
from knarr.errors import UsageError
from knarr.oci import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_TABLE = "table "


def render_rows(form: str, rows: Sequence[dict[str, str]], heads: Mapping[str, str]) -> str:
    """A line for each row; `heads` are the columns' names for `table …`, where they are not the field's in capitals."""
    if not form.startswith(_TABLE):
        return "".join(f"{render(form, row)}\n" for row in rows)
    columns = form.removeprefix(_TABLE).replace("\\t", "\t").split("\t")
    fields = {word.strip("{}").lstrip(".") for word in form.replace("{{", " ").replace("}}", " ").split()}
    named = {field: heads.get(field, field.upper()) for field in fields}
    shown = [[render(column, row) for column in columns] for row in rows]
    return table([render(column, named) for column in columns], shown) + "\n"


def render(form: str, value: Any) -> str:
    """`form` with its actions replaced. Raises `UsageError` for what is no template or names no field.

    A program that reads the output gets values as they are; a terminal gets control characters visibly.
    """
    if form == "json":
        return json.dumps(value)
    form = form.replace("\\t", "\t").replace("\\n", "\n")
    at_terminal = os.isatty(1)
    out, rest = "", form
    while "{{" in rest:
        text, _, rest = rest.partition("{{")
        action, closed, rest = rest.partition("}}")
        if not closed:
            raise UsageError(f"invalid template {form!r}: an action is not closed")
        found = _action(action.strip(), value, form)
        out += text + (visible(found) if at_terminal else found)
    return out + rest


def _action(action: str, value: Any, form: str) -> str:
    words = action.split()
    if len(words) == 2 and words[0] == "json":
        return json.dumps(_field(words[1], value, form))
    if len(words) == 2 and words[0] == ".Label":
        return _label(words[1].strip('"'), value)
    if len(words) == 3 and words[0] == "index":
        return _text(_index(_field(words[1], value, form), words[2].strip('"'), form))
    if len(words) != 1:
        raise UsageError(
            f"invalid template {form!r}: {action!r} is not understood", hint="try --format json and jq"
        )
    return _text(_field(words[0], value, form))


def _label(key: str, row: Any) -> str:
    """From docker's text of all labels; the head of such a column is the key."""
    if "Labels" not in row:
        return key
    pairs = (pair.partition("=") for pair in row["Labels"].split(","))
    return next((value for name, _, value in pairs if name == key), "")


def _field(path: str, value: Any, form: str) -> Any:
    if not path.startswith("."):
        raise UsageError(f"invalid template {form!r}: {path!r} is no field")
    for name in path.split("."):
        if name:
            value = _index(value, name, form)
    return value


def _index(value: Any, name: str, form: str) -> Any:
    if isinstance(value, dict) and name in value:
        return value[name]
    if isinstance(value, list) and name.isdecimal() and len(name) < 10 and int(name) < len(value):
        return value[int(name)]
    raise UsageError(f"invalid template {form!r}: there is no field {name!r}")


def _text(value: Any) -> str:
    """As Go prints it: maps as map[a:b], lists as [a b], truth as true."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "<nil>"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{k}:{_text(v)}" for k, v in sorted(value.items())) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(_text, value)) + "]"
    return str(value)
