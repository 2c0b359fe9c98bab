"""`knarr pull` that is interrupted or killed in the middle: it ends at once, and the next one goes on where it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.registry.hostile import Hostile, stall
from harness.images import MadeImage
from harness.wait import until

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    def run(*words: str) -> subprocess.Popen[str]:
        env = {
            "PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path),
            "KNARR_ROOT": str(tmp_path / "store"), "KNARR_RUN": str(tmp_path / "run"),
        }  # fmt: skip
        return subprocess.Popen(
            [sys.executable, "-m", "knarr", *words], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )  # fmt: skip

    return run


def big_layer(image: MadeImage) -> str:
    found: str = json.loads(image.manifest)["layers"][1]["digest"]
    return found


def fetched(tmp_path: Path) -> int:
    """Bytes of cut downloads."""
    return sum(path.stat().st_size for path in (tmp_path / "store/tmp/partial").glob("*"))


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_the_next_pull_goes_on(
    hostile: Hostile, start: Start, image: MadeImage, tmp_path: Path, number: int, code: int
) -> None:
    reference = hostile.add("a", "latest", image)
    hostile.on(big_layer(image), stall(500_000), times=1)
    first = start("pull", reference)
    until(20, lambda: fetched(tmp_path) == 500_000)
    began = time.monotonic()
    first.send_signal(number)
    _, err = first.communicate(timeout=20)
    assert first.returncode == code
    assert time.monotonic() - began < 10, "it does not wait for the registry"
    assert "Traceback" not in err
    if number == signal.SIGINT:
        assert err.splitlines() == ["knarr: pull interrupted; the next one goes on with what has come"]
    listed = start("images", "-q").communicate(timeout=20)
    assert listed[0] == ""
    hostile.seen.clear()
    second = start("pull", reference)
    out, err = second.communicate(timeout=30)
    assert (second.returncode, err) == (0, "")
    assert out.endswith(f"Status: Downloaded newer image for {reference}\n{reference}\n")
    asked = [r.headers["Range"] for r in hostile.seen if big_layer(image) in r.path]
    assert asked == ["bytes=500000-"]
    assert fetched(tmp_path) == 0


def test_an_interrupt_before_the_registry_answers(hostile: Hostile, start: Start, image: MadeImage) -> None:
    reference = hostile.add("a", "latest", image)
    hostile.on("/manifests/", stall(-1))
    process = start("pull", reference)
    until(20, lambda: hostile.count("/manifests/") > 0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err.splitlines() == ["knarr: pull interrupted; the next one goes on with what has come"]
    assert out == "latest: Pulling from a\n"


def test_two_at_once_fetch_it_once(hostile: Hostile, start: Start, image: MadeImage) -> None:
    reference = hostile.add("a", "latest", image)
    both = [start("pull", "-q", reference) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, f"{reference}\n", "")
    assert hostile.count(big_layer(image)) == 1


def test_trouble_is_one_line(hostile: Hostile, start: Start) -> None:
    process = start("pull", f"{hostile.host}/none")
    _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert err.startswith(f"knarr: manifest for {hostile.host}/none:latest not found: manifest unknown\n")
    assert "Traceback" not in err
