"""docs/runtime-spec.md speaks of every field that a configuration can have."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.machine import REPOSITORY
from knarr.oci import spec
from knarr.oci.document import _json_names


def names(record: type, path: str = "") -> Iterator[str]:
    """`linux.seccomp.flags` for every field of a record and those in it."""
    for field, name in _json_names(record).items():
        yield f"{path}{name}"
        inner = record.__annotations__[field].removesuffix("| None").strip()
        inner = (
            inner.removeprefix("tuple[").removeprefix("Mapping[str, ").removesuffix("]").removesuffix(", ...")
        )
        if isinstance(kind := getattr(spec, inner, None), type):
            yield from names(kind, f"{path}{name}.")


PAGE = (REPOSITORY / "docs/runtime-spec.md").read_text()
WORDS = {word for code in PAGE.split("`")[1::2] for word in code.replace("[]", "").split(".")}


@pytest.mark.parametrize("field", list(names(spec.Spec)))
def test_the_page_has_the_field(field: str) -> None:
    assert field.rpartition(".")[2] in WORDS
