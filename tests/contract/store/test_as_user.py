"""The whole suite once more, as root of an ordinary user's namespace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.command import Knarr
from harness.machine import REPOSITORY

HERE = Path(__file__).parent
PROGRAM = """
import sys
from knarr.host.facts import read_facts
from knarr.host.userns import reexec_in_userns

reexec_in_userns(read_facts(), [sys.executable, "-B", "-m", "pytest", *sys.argv[1:]])
"""


@pytest.mark.requires("newuidmap", "userns")
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_in_a_user_namespace(user: Knarr) -> None:
    options = [
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        f"--basetemp={user.home}/tests",
        "--confcutdir",
        str(HERE),
    ]
    argv = [
        sys.executable,
        "-B",
        "-c",
        PROGRAM,
        *options,
        "--ignore",
        __file__,
        "--rootdir",
        str(REPOSITORY),
        str(HERE),
    ]
    as_user = {} if user.uid is None else {"user": user.uid, "group": user.uid, "extra_groups": []}
    env = {**user.env, "PYTHONPATH": os.pathsep.join((str(REPOSITORY / "src"), str(REPOSITORY / "tests")))}
    done = subprocess.run(argv, cwd=user.home, env=env, capture_output=True, text=True, **as_user)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert "passed" in done.stdout
