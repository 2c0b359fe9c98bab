"""Names of images on disk: `refs/NAME` is a symbolic link to `../images/HEX`.

NAME is the complete reference with `,` for `/`, which no reference has: `docker.io,library,busybox:latest`. One that
is longer than a file name can be is `~SHA256`, with the reference itself in a file `~SHA256.name` beside it.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME_MAX = 255


def encode(name: str) -> str:
    """The file name of a complete reference (`str(Reference)`)."""
    plain = name.replace("/", ",")
    if len(plain) <= _NAME_MAX:
        return plain
    import hashlib

    return "~" + hashlib.sha256(name.encode()).hexdigest()


def read_ref(root: str, name: str) -> str:
    """The hex of the image a complete reference names, "" when it names none."""
    try:
        return os.path.basename(os.readlink(f"{root}/refs/{encode(name)}"))
    except OSError:
        return ""


def all_refs(root: str) -> Iterator[tuple[str, str]]:
    """(complete reference, hex of the image), unordered."""
    directory = f"{root}/refs"
    try:
        listed = os.listdir(directory)
    except FileNotFoundError:
        return
    for file in listed:
        if file.endswith((".name", ".new")):
            continue
        try:
            target = os.readlink(f"{directory}/{file}")
            yield _decode(directory, file), os.path.basename(target)
        except OSError:
            continue  # being removed


def _decode(directory: str, file: str) -> str:
    if not file.startswith("~"):
        return file.replace(",", "/")
    with open(f"{directory}/{file}.name", encoding="utf-8") as text:
        return text.read()


def write_ref(root: str, name: str, image_hex: str, beside: str) -> None:
    """Point a name at an image, atomically; `beside` is a free path on the same file system."""
    file = encode(name)
    if file.startswith("~"):
        with open(beside, "w", encoding="utf-8") as text:
            text.write(name)
        os.rename(beside, f"{root}/refs/{file}.name")
    os.symlink(f"../images/{image_hex}", beside)
    os.rename(beside, f"{root}/refs/{file}")


def remove_ref(root: str, name: str) -> None:
    """Absent is fine."""
    file = encode(name)
    for path in (f"{root}/refs/{file}", *((f"{root}/refs/{file}.name",) if file.startswith("~") else ())):
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
