"""Log files: both formats, cut lines and characters, rotation, a full disk."""

from __future__ import annotations

import json
import random
import re
import subprocess
from pathlib import Path

import pytest

from native.plans import Native, Rootfs

pytestmark = pytest.mark.requires("root", "overlay", "busybox")

LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) (stdout|stderr) ([FP]) (.*)", re.DOTALL)


def log(native: Native, rootfs: Rootfs, chunks: list[bytes], path: Path, driver: str, *words: str) -> None:
    """What `cat` gets chunk by chunk, it writes."""
    running = native.monitor(
        rootfs.plan("cat"), f"log={path}", f"driver={driver}", "stdin=2", *words
    ).started()
    assert running.primary.recv(100) == b"hpipe stdin"
    for chunk in chunks:
        running.primary.send(b"i" + chunk)
        seen = 0
        while seen < len(chunk):
            message = running.primary.recv(65536)
            if message[:1] == b"o":
                seen += len(message) - 1
    running.primary.send(b"c")
    assert running.output() == (b"", 0)
    assert running.wait() == 0


def test_k8s_file(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    log(native, rootfs, [b"one\ntwo\n", b"be", b"gun\n\n", b"no end"], tmp_path / "log", "k8s-file")
    found = [LINE.fullmatch(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [m and m.group(3, 4) for m in found] == [
        ("F", "one"), ("F", "two"), ("P", "be"), ("F", "gun"), ("F", ""), ("P", "no end"),
    ]  # fmt: skip


def test_both_streams(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    running = native.monitor(
        rootfs.shell("echo out; echo err >&2"), f"log={tmp_path}/log", "driver=json-file", primary=False
    ).started()
    assert running.wait() == 0
    found = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert sorted((m["stream"], m["log"]) for m in found) == [("stderr", "err\n"), ("stdout", "out\n")]
    assert all(re.fullmatch(r"[-\d]{10}T[:\d]{8}\.\d{9}Z", m["time"]) for m in found)
    assert [list(m) for m in found] == [["log", "stream", "time"]] * 2


@pytest.mark.parametrize(
    ("chunks", "text"),
    [
        ([b'say "hi" \\ \t\r\x00\x1f\x7f\n'], 'say "hi" \\ \t\r\x00\x1f\x7f\n'),
        (["grüße 漢字 🚢\n".encode()], "grüße 漢字 🚢\n"),
        (["🚢".encode()[:1], "🚢".encode()[1:3], "🚢".encode()[3:] + b"\n"], "🚢\n"),
        (["漢".encode()[:2], b"x\n"], "��x\n"),
        (["漢".encode()[:2], "漢".encode()[2:] + b"y\n"], "漢y\n"),
        ([b"\xff\xfe\n"], "��\n"),
        ([b"\xc0\x80\n"], "��\n"),  # too long a form of NUL
        ([b"\xed\xa0\x80\n"], "���\n"),  # a surrogate
        ([b"\xf4\x90\x80\x80\n"], "����\n"),  # beyond Unicode
        ([b"\xe6\xbc"], "��"),  # cut off for good
        ([b"\xe6", b"\xe6", b"\n"], "��\n"),
    ],
)
def test_json_file_is_always_json(
    native: Native, rootfs: Rootfs, tmp_path: Path, chunks: list[bytes], text: str
) -> None:
    log(native, rootfs, chunks, tmp_path / "log", "json-file")
    assert "".join(json.loads(line)["log"] for line in (tmp_path / "log").read_text().splitlines()) == text


def test_json_of_anything(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    random_ = random.Random(7)
    pieces = [
        b"a",
        b"\n",
        b'"',
        b"\\",
        b"\xc3",
        b"\xa9",
        b"\xe2\x82",
        b"\xac",
        b"\xf0\x9f\x9a\xa2",
        b"\xff",
        b"\0",
    ]
    chunks = [b"".join(random_.choices(pieces, k=random_.randint(1, 30))) for _ in range(120)]
    log(native, rootfs, chunks, tmp_path / "log", "json-file")
    text = "".join(json.loads(line)["log"] for line in (tmp_path / "log").read_bytes().decode().splitlines())
    whole = b"".join(chunks)
    # Python replaces a cut-off character as a whole, we replace byte by byte: compare what is not replaced.
    assert text.replace("�", "") == whole.decode(errors="ignore")


@pytest.mark.parametrize("driver", ["k8s-file", "json-file"])
def test_rotation(native: Native, rootfs: Rootfs, tmp_path: Path, driver: str) -> None:
    path = tmp_path / "log"
    chunks = [b"".join(b"line %d.%d\n" % (i, j) for j in range(20)) for i in range(20)]
    log(native, rootfs, chunks, path, driver, "max-size=4000", "max-file=3")
    files = [path, Path(f"{path}.1"), Path(f"{path}.2")]
    assert sorted(p.name for p in tmp_path.glob("log*")) == ["log", "log.1", "log.2"]
    assert all(0 < f.stat().st_size <= 4000 for f in files)
    lines = [line for f in reversed(files) for line in f.read_text().splitlines()]
    texts = [json.loads(x)["log"] if driver == "json-file" else x.split(" ", 3)[3] + "\n" for x in lines]
    everything = b"".join(chunks).decode()
    assert everything.endswith("".join(texts))  # the newest, without a gap
    assert len(texts) > 60


def test_rotation_with_one_file_begins_anew(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    log(
        native,
        rootfs,
        [b"%d\n" % i for i in range(100)],
        tmp_path / "log",
        "k8s-file",
        "max-size=1000",
        "max-file=1",
    )
    assert [p.name for p in tmp_path.glob("log*")] == ["log"]
    assert (tmp_path / "log").stat().st_size <= 1000
    assert (tmp_path / "log").read_text().splitlines()[-1].endswith(" 99")


def test_a_line_longer_than_everything(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    log(native, rootfs, [b"x" * 30_000 + b"\n"], tmp_path / "log", "k8s-file", "max-size=1000", "max-file=2")
    texts = [
        line.split(" ", 3)[3]
        for p in sorted(tmp_path.glob("log*"), reverse=True)
        for line in p.read_text().splitlines()
    ]
    assert "".join(texts).strip("x") == ""


def test_it_goes_on_behind_what_is_there(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    log(native, rootfs, [b"after\n"], path, "k8s-file")
    assert path.read_text().startswith("before\n")
    assert path.read_text().endswith(" after\n")


def test_a_full_disk_loses_records_not_the_container(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", disk], check=True)
    try:
        log(native, rootfs, [b"%d %s\n" % (i, b"." * 300) for i in range(60)], disk / "log", "k8s-file")
        lines = (disk / "log").read_text().splitlines()
        assert 20 < len(lines) < 60
        assert all(LINE.fullmatch(line) for line in lines)  # no half record
    finally:
        subprocess.run(["umount", disk], check=True)


def test_no_log(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    log(native, rootfs, [b"x\n"], tmp_path / "log", "none")
    assert not (tmp_path / "log").exists()
    running = native.monitor(rootfs.plan("true"), f"log={tmp_path}/no/way/log", "driver=k8s-file").started()
    assert running.output()[1] == 0
