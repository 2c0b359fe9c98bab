"""Steps: how they are printed and sent."""

from __future__ import annotations

import pytest

from knarr.errors import UsageError
from knarr.plan.render import render
from knarr.plan.setup import Plan
from knarr.plan.step import Step, shown, to_wire


def test_wire_form() -> None:
    steps = [Step("mkdir", ("/a b", "755"), "x"), Step("write", ("/f", ""), "y", optional=True)]
    want = "knarr-plan 1 2 mkdir  x 2 /a_b 755 write ? y 2 /f  ".replace(" ", "\0").replace("_", " ")
    assert to_wire(steps) == want.encode()
    assert to_wire([]) == b"knarr-plan\x001\x000\0"


def test_bytes_of_paths_survive() -> None:
    assert b"\xff" in to_wire([Step("mkdir", ("/\udcff", "755"), "x")])


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
def test_what_cannot_be_sent_names_its_origin(text: str) -> None:
    with pytest.raises(UsageError, match="^here: contains"):
        to_wire([Step("a", ("1",), "x"), Step("mkdir", ("/", text), "here"), Step("b", (), "y")])


def test_shown() -> None:
    assert shown("plain") == "plain"
    assert shown("") == "''"
    assert shown("two words\n") == "'two words\\n'"
    assert len(shown("f" * 5000)) < 70


def test_render_numbers_steps_as_failures_do() -> None:
    text = render(Plan((Step("pivot", (), "root.path"), Step("exec", ("a b",), "process.args")), ("mind",)))
    assert [line.split()[0] for line in text.splitlines()] == ["0", "1", "warning:"]
    assert text.splitlines()[1].split("#") == [f"   1  {'exec ' + repr('a b'):<72}  ", " process.args"]
