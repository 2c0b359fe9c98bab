"""JSON that is none, read as a start does it: without the standard library's package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[3] / "src"


def alone(words: str) -> str:
    """What an interpreter prints that has imported nothing but our module."""
    program = f"import sys; sys.path.insert(0, {str(SOURCE)!r})\nfrom knarr.oci import json\n{words}"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True)
    return done.stdout + done.stderr.rpartition("\n")[0].rpartition("\n")[2]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "Expecting property name"),
        ('{"a" 1}', "Expecting ':'"),
        ('"abc', "Unterminated string"),
        ('"\n"', "Invalid control character"),
        ('"\\x"', "Invalid \\escape"),
        ("[1,]", "no value at offset 3"),
        ("", "no value at offset 0"),
        ("[" * 50_000, "nested too deeply"),
    ],
    ids=range(8),
)
def test_says_what_is_wrong(text: str, says: str) -> None:
    shown = alone(f"json.loads({text!r})") if len(text) < 100 else alone("json.loads('[' * 50_000)")
    assert shown.startswith("knarr.errors.DataError: JSON: ") and says in shown, shown


def test_half_a_character() -> None:
    words = "text = b'{{\"a\": [\"{}\"]}}'; json.check_characters(text, json.loads(text)); print('fine')"
    assert alone(words.format("\\\\ud83d\\\\ude00")) == "fine\n"
    assert "\\ud83d is not a character" in alone(words.format("\\\\ud83d"))
    assert "\\ude00 is not a character" in alone(words.format("\\\\uDE00"))
