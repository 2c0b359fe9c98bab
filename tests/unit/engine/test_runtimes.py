"""runtimes.toml: checked key by key, with the place of what is wrong; and which program a name stands for."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from knarr.engine.other_runtime import last_error
from knarr.engine.runtimes import Runtime, Settings, chosen, decode, find
from knarr.errors import DataError, HostError
from knarr.host.paths import Paths


def test_a_whole_file() -> None:
    text = 'default = "wall"\n[runtimes.wall]\npath = "/opt/runsc"\nargs = ["--platform=ptrace"]\n[runtimes.crun]\n'
    expected = {"wall": Runtime("/opt/runsc", ("--platform=ptrace",)), "crun": Runtime("")}
    assert decode(tomllib.loads(text), "F") == Settings("wall", expected, "F")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour = 1", "F: unknown key 'colour'; known are default, runtimes"),
        ("default = 1", "F: default: 1 is not a runtime's name"),
        ("runtimes = 1", "F: runtimes: is not a table"),
        ("[runtimes]\nx = 1", "F: runtimes.x: is not a table"),
        ("[runtimes.x]\npaht = ''", "F: runtimes.x: unknown key 'paht'; known are path, args"),
        ("[runtimes.x]\npath = 'runc'", "F: runtimes.x.path: 'runc' is not an absolute path"),
        ("[runtimes.x]\nargs = '--debug'", "F: runtimes.x.args: is not a list of words"),
        ("[runtimes.x]\nargs = [1]", "F: runtimes.x.args: is not a list of words"),
        ("[runtimes.knarr]", "F: runtimes.knarr: is knarr's own"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        decode(tomllib.loads(text), "F")
    assert caught.value.message.startswith(said)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    program = tmp_path / "program"
    program.write_text("")
    program.chmod(0o755)
    (tmp_path / "runtimes.toml").write_text(
        f'default = "mine"\n[runtimes.mine]\npath = "{program}"\nargs = ["-x"]\n[runtimes.gone]\npath = "/no/such"\n'
    )
    return Paths(str(tmp_path), str(tmp_path), (str(tmp_path / "none"), str(tmp_path)))


def test_names_and_paths(paths: Paths, tmp_path: Path) -> None:
    program = str(tmp_path / "program")
    assert find(paths, "mine") == Runtime(program, ("-x",))
    assert find(paths, program) == Runtime(program)
    assert (chosen(paths, ""), chosen(paths, "knarr"), chosen(paths, program)) == ("mine", "", program)


@pytest.mark.parametrize("name", ["gone", "no-such-program", "/", "/etc/passwd"])
def test_no_program(paths: Paths, name: str) -> None:
    with pytest.raises(HostError, match="not found, or not executable"):
        chosen(paths, name)


def test_the_last_complaint_in_a_log() -> None:
    errors = b'{"level":"error","msg":"first"}\nrubbish\n{"level":"error","msg":"last"}\n[]\n'
    lines = b'{"level":"warning","msg":"w"}\n' + errors
    assert last_error(lines) == "last"
    assert last_error(b'{"level":"warning","msg":"w"}\n') == ""
