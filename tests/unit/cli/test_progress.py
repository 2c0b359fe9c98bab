"""What a pull shows: docker's lines to a pipe, bars to a terminal, and nothing of a terminal in a pipe."""

from __future__ import annotations

import subprocess
import sys

import pytest

from knarr.cli.progress import Lines, OnTerminal, Quiet, progress_for, short
from knarr.engine.pull import Progress
from knarr.oci.reference import parse

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def play(progress: Progress, *, newer: bool = True) -> None:
    reference = parse("localhost:5000/team/app:v1")
    progress.started(reference)
    progress.warned("[bold]beware")
    progress.exists(A)
    progress.waiting(B, 20)
    progress.advanced(B, 7)
    progress.advanced(B, 20)
    progress.advanced(B, 20)
    progress.complete(B)
    progress.finished(reference, A, newer)
    progress.close()


def test_dockers_lines(capsys: pytest.CaptureFixture[str]) -> None:
    play(Lines())
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "v1: Pulling from team/app",
        "aaaaaaaaaaaa: Already exists",
        "bbbbbbbbbbbb: Pulling fs layer",
        "bbbbbbbbbbbb: Download complete",
        "bbbbbbbbbbbb: Pull complete",
        f"Digest: {A}",
        "Status: Downloaded newer image for localhost:5000/team/app:v1",
    ]
    assert err == "knarr: warning: [bold]beware\n"


def test_nothing_new(capsys: pytest.CaptureFixture[str]) -> None:
    play(Lines(), newer=False)
    assert capsys.readouterr().out.endswith("Status: Image is up to date for localhost:5000/team/app:v1\n")


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    play(Quiet())
    assert capsys.readouterr().out == ""


def test_bars_are_put_away(capsys: pytest.CaptureFixture[str]) -> None:
    play(OnTerminal())
    out = capsys.readouterr().out
    assert "v1: Pulling from team/app" in out
    assert "[bold]beware" in out
    assert f"Digest: {A}" in out
    OnTerminal().close()  # a pull that failed before its first byte


def test_which_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(progress_for(quiet=True)) is Quiet
    assert type(progress_for(quiet=False)) is Lines


def test_rich_is_not_imported_for_lines() -> None:
    program = (
        "import sys, knarr.cli.progress as p; p.progress_for(quiet=False); "
        "sys.exit(any(m == 'rich' or m.startswith('rich.') for m in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE)


def test_short() -> None:
    assert short(A) == "a" * 12
