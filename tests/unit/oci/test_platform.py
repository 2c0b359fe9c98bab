"""Platforms: names normalised and matched as containerd does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knarr.errors import UsageError
from knarr.oci.image import Descriptor, Platform
from knarr.oci.platform import host, matches, normalize, parse, runnable, select, shown


def index(*texts: str) -> list[Descriptor]:
    found = []
    for i, text in enumerate(texts):
        os, arch, *variant = text.split("/")
        found.append(Descriptor("m", str(i), 0, platform=Platform(arch, os, variant="".join(variant))))
    return found


def pick(wanted: str, *offered: str) -> str | None:
    chosen = select(index(*offered), parse(wanted, "x86_64"))
    return offered[int(chosen.digest)] if chosen else None


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("linux", "linux/arm64"),
        ("amd64", "linux/amd64"),
        ("aarch64", "linux/arm64"),
        ("armhf", "linux/arm/v7"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/ARM64", "linux/arm64"),
        ("Linux/x86_64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("macos/arm64", "darwin/arm64"),
        ("windows/amd64", "windows/amd64"),
    ],
)
def test_written_forms(text: str, means: str) -> None:
    assert shown(parse(text, "aarch64")) == means


@pytest.mark.parametrize("text", ["", "/", "linux/", "a/b/c/d", "li nux/amd64", "nonsense"])
def test_refused(text: str) -> None:
    with pytest.raises(UsageError, match="platform"):
        parse(text, "x86_64")


def test_this_machine() -> None:
    assert shown(host("x86_64")) == "linux/amd64"
    assert shown(host("armv7l")) == "linux/arm/v7"
    assert shown(host("riscv64")) == "linux/riscv64"


def test_the_closest_variant_wins_wherever_it_stands() -> None:
    assert pick("linux/arm/v7", "linux/arm/v5", "linux/arm/v6", "linux/amd64") == "linux/arm/v6"
    assert pick("linux/arm/v7", "linux/arm/v5", "linux/arm/v7") == "linux/arm/v7"
    assert pick("linux/arm/v6", "linux/arm/v7") is None
    assert pick("linux/arm64", "linux/arm/v7", "linux/arm64/v8") == "linux/arm64/v8"
    assert pick("linux/arm64", "linux/arm/v7", "linux/amd64") == "linux/arm/v7"
    assert pick("linux/amd64", "linux/386", "linux/amd64") == "linux/amd64"
    assert pick("linux/amd64", "linux/386") == "linux/386"
    assert pick("linux/amd64", "linux/amd64/v3") is None
    assert pick("linux/amd64/v3", "linux/amd64", "linux/amd64/v2") == "linux/amd64/v2"
    assert pick("linux/amd64", "windows/amd64", "unknown/unknown") is None


def test_of_equals_the_first() -> None:
    assert select(index("linux/amd64", "linux/amd64"), host("x86_64")) == index("linux/amd64")[0]


def test_a_manifest_without_platform_is_passed_over() -> None:
    assert select([Descriptor("m", "d", 0)], host("x86_64")) is None


def test_matches() -> None:
    assert matches(host("x86_64"), Platform("x86_64", "linux"))
    assert not matches(host("x86_64"), Platform("arm64", "linux"))


@given(st.builds(Platform, st.text(max_size=8), st.text(max_size=8), variant=st.text(max_size=4)))
def test_normal_form_is_stable_and_runs_itself(platform: Platform) -> None:
    once = normalize(platform)
    assert normalize(once) == once
    assert matches(platform, platform)
    assert runnable(platform)[0] == once
