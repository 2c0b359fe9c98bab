"""`seed`: an empty volume is filled once, whoever is killed and however many begin at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from knarr.plan.step import Step
from native.plans import Native, Rootfs, step

pytestmark = pytest.mark.requires("root", "overlay", "busybox")


@pytest.fixture
def volume(rootfs: Rootfs) -> Path:
    data = rootfs.base / "volume/_data"
    data.mkdir(parents=True)
    (rootfs.lower / "stuff/below").mkdir(parents=True)
    (rootfs.lower / "stuff/below/file").write_text("the image's\n")
    (rootfs.lower / "stuff").chmod(0o1770)
    return data


def seeded(rootfs: Rootfs, volume: Path, path: str = "/stuff") -> list[Step]:
    return rootfs.shell("true", inside=[step("seed", volume, path, volume.parent / "filling")])


def test_an_empty_volume_is_filled(native: Native, rootfs: Rootfs, volume: Path) -> None:
    assert native.init(seeded(rootfs, volume)).code == 0
    assert (volume / "below/file").read_text() == "the image's\n"
    assert volume.stat().st_mode & 0o7777 == 0o1770
    assert [path.name for path in volume.parent.iterdir()] == ["_data"]


def test_one_with_anything_in_it_is_left_alone(native: Native, rootfs: Rootfs, volume: Path) -> None:
    (volume / "own").touch()
    assert native.init(seeded(rootfs, volume)).code == 0
    assert [path.name for path in volume.iterdir()] == ["own"]
    # Somebody who was about to fill it was killed, or waited, and then found it used.
    (volume.parent / "filling").touch()
    assert native.init(seeded(rootfs, volume)).code == 0
    assert [path.name for path in volume.iterdir()] == ["own"]
    assert not (volume.parent / "filling").exists()


def test_a_filling_that_was_cut_off_is_done_again(native: Native, rootfs: Rootfs, volume: Path) -> None:
    (volume / "below").mkdir()
    (volume / "below/file").write_text("the im")
    (volume.parent / "filling").write_text("copying\n")
    assert native.init(seeded(rootfs, volume)).code == 0
    assert (volume / "below/file").read_text() == "the image's\n"
    assert not (volume.parent / "filling").exists()


def test_the_image_need_not_have_anything_there(native: Native, rootfs: Rootfs, volume: Path) -> None:
    for path in ("/absent", "/bin/busybox"):
        assert native.init(seeded(rootfs, volume, path)).code == 0
    assert list(volume.iterdir()) == []
    assert native.init(seeded(rootfs, volume)).code == 0
    assert (volume / "below").is_dir()
