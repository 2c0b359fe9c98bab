"""`--format`: Go's templates as far as people use them, and docker's tables."""

from __future__ import annotations

import pytest

from knarr.cli.templates import render, render_rows
from knarr.errors import UsageError

ROWS = [
    {"ID": "1", "Names": "web", "Labels": "a=b,c=d e"},
    {"ID": "22", "Names": "database", "Labels": ""},
]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("{{.A.B}} and {{ .C }}", "1 and true"),
        ("{{json .A}}", '{"B":1}'),
        ("{{index .L 1}}", "y"),
        ("{{.L}} {{.A}} {{.N}}", "[x y] map[B:1] <nil>"),
        (r"a\tb\n", "a\tb\n"),
    ],
)
def test_one_value(form: str, text: str) -> None:
    assert render(form, {"A": {"B": 1}, "C": True, "L": ["x", "y"], "N": None}) == text


@pytest.mark.parametrize("form", ["{{.Nope}}", "{{.A", "{{range .A}}", "{{A}}"])
def test_what_is_not_understood_is_refused(form: str) -> None:
    with pytest.raises(UsageError, match="invalid template"):
        render(form, {"A": 1})


def test_a_line_for_each_row() -> None:
    assert render_rows("{{.ID}}:{{.Names}}", ROWS, {}) == "1:web\n22:database\n"
    assert render_rows('{{.Label "c"}}', ROWS, {}) == "d e\n\n"
    assert render_rows("{{.ID}}", [], {}) == ""


def test_a_table_has_heads() -> None:
    table = render_rows(r'table {{.ID}}\t{{.Names}}\t{{.Label "a"}}', ROWS, {"ID": "CONTAINER ID"})
    assert table == "CONTAINER ID   NAMES      a\n1              web        b\n22             database\n"
    assert render_rows("table {{.Names}}", [], {}) == "NAMES\n"
