"""Runs a few lines of Python, with knarr's modules, as the ordinary user of the private machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from harness.command import Knarr

Run = Callable[..., "subprocess.CompletedProcess[str]"]

PREAMBLE = """\
import os, sys
from knarr.host import native, userns
from knarr.host.facts import read_facts
from knarr.host.paths import default_paths, make_directories
from knarr.plan.step import Step
facts = read_facts()
paths = default_paths(facts.euid, os.environ)
"""


@pytest.fixture
def as_user(user: Knarr) -> Run:
    """Call it with a program's text: it ends, and its output is text."""

    def run(code: str, *words: str) -> subprocess.CompletedProcess[str]:
        with start(user, code, *words) as process:
            out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    return run


@pytest.fixture
def start_as_user(user: Knarr) -> Callable[..., subprocess.Popen[str]]:
    """As `as_user`, for a program that goes on; the test ends it."""
    return lambda code, *words, pass_fds=(): start(user, code, *words, pass_fds=pass_fds)


def start(user: Knarr, code: str, *words: str, pass_fds: tuple[int, ...] = ()) -> subprocess.Popen[str]:
    env = dict(user.env)
    if "KNARR_NATIVE" in os.environ:
        env["KNARR_NATIVE"] = os.environ["KNARR_NATIVE"]
    who = {} if user.uid is None else {"user": user.uid, "group": user.uid, "extra_groups": []}
    return subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + code, *words],
        env=env,
        cwd=user.home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=pass_fds,
        **who,  # type: ignore[arg-type]  # three keyword arguments, or none
    )
