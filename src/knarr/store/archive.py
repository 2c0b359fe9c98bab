"""Load and save: images from and to archives of docker, podman, skopeo, buildah, and OCI layouts."""

from __future__ import annotations

import os
import sys

from knarr.errors import Conflict, DataError, NotFound, UsageError
from knarr.oci.reference import parse
from knarr.store import docker_archive, oci_layout, tar
from knarr.store.ingest import disk_trouble
from knarr.store.parts import open_parts
from knarr.store.tar import Entry
from knarr.store.tar_writer import TarWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from knarr.store.images import Image
    from knarr.store.parts import Parts
    from knarr.store.store import Store

    Chosen = Sequence[tuple[Image, Sequence[str]]]

DOCKER_ARCHIVE, OCI_ARCHIVE, OCI_DIRECTORY = "docker-archive", "oci-archive", "oci-dir"


def load(store: Store, path: str) -> list[str]:
    """Every image at `path` (an archive, compressed or not, or a layout's directory), or on standard input when it is
    empty; docker's lines about what was loaded. Raises `UsageError`, `DataError`, `HostError`."""
    with store.operation() as writer:
        parts = open_parts(path, writer.session.free_path("archive"))
        try:
            return _load(store, parts, path or "standard input")
        except OSError as e:
            raise disk_trouble(f"load {path or 'standard input'}", e) from e
        finally:
            parts.close()


def _load(store: Store, parts: Parts, what: str) -> list[str]:
    if parts.find(oci_layout.LAYOUT) is not None and parts.find(oci_layout.INDEX) is not None:
        return oci_layout.load(store, parts)
    if parts.find(docker_archive.INDEX) is not None:
        return docker_archive.load(store, parts)
    if parts.find("repositories") is not None:
        raise DataError(
            "an archive of a docker before 1.10, whose images have no digests",
            hint="save the image again with a current docker, podman or skopeo",
        )
    raise DataError(
        f"{what}: neither a docker archive nor an OCI layout: no manifest.json, no index.json",
        hint="make one with `docker save`, `podman save` or `knarr save`",
    )


def save(store: Store, names: Sequence[str], path: str, form: str) -> None:
    """Write images to `path`, or to standard output when it is empty. `form`: docker-archive, oci-archive or oci-dir.

    A file appears whole or not at all. Raises `NotFound`, `UsageError`, `HostError`.
    """
    try:
        with store.operation():
            _save(store, _choose(store, names), path, form)
    except BrokenPipeError:
        raise
    except OSError as e:
        raise disk_trouble(f"save {path or 'to standard output'}", e) from e


def _save(store: Store, chosen: Chosen, path: str, form: str) -> None:
    if form == OCI_DIRECTORY:
        _save_directory(store, chosen, path)
    elif path:
        _save_file(path, lambda write: _write(store, chosen, form, write))
    else:
        _write(store, chosen, form, sys.stdout.buffer.write)
        sys.stdout.buffer.flush()


def _choose(store: Store, names: Sequence[str]) -> list[tuple[Image, list[str]]]:
    """Each image once, with the names it was asked by; one that was asked by its id is saved without a name."""
    images: dict[str, tuple[Image, list[str]]] = {}
    for name in names:
        image = store.find_image(name)
        if image is None:
            raise NotFound("image", name, hint="list them with `knarr images`")
        _, asked = images.setdefault(image.id, (image, []))
        full = _full_name(image, name)
        if full and full not in asked:
            asked.append(full)
    return list(images.values())


def _full_name(image: Image, text: str) -> str:
    try:
        full = str(parse(text))
    except UsageError:
        return ""
    return full if full in image.names and "@" not in full else ""


def _write(store: Store, chosen: Chosen, form: str, write: Callable[[bytes], object]) -> None:
    if form == DOCKER_ARCHIVE:
        docker_archive.save(store, chosen, write)
        return
    out = TarWriter(write)

    def put(name: str, data: bytes) -> None:
        out.entry(Entry(name.encode(), tar.FILE, 0o644, 0, 0, len(data), 0))
        out.data(data)

    def put_chunks(name: str, size: int, chunks: Iterator[bytes]) -> None:
        out.entry(Entry(name.encode(), tar.FILE, 0o644, 0, 0, size, 0))
        for chunk in chunks:
            out.data(chunk)

    oci_layout.save(store, chosen, put, put_chunks)
    out.close()


def _save_file(path: str, fill: Callable[[Callable[[bytes], object]], None]) -> None:
    """Beside and renamed; what is no regular file (a device, a pipe) is written directly."""
    if os.path.exists(path) and not os.path.isfile(path):
        if os.path.isdir(path):
            raise UsageError(f"{path}: is a directory", hint="name a file, or use --format oci-dir")
        with open(path, "wb") as file:
            fill(file.write)
        return
    beside = f"{path}.{os.getpid()}~"
    try:
        with open(beside, "wb") as file:
            fill(file.write)
        os.rename(beside, path)
    except BaseException:
        if os.path.exists(beside):
            os.unlink(beside)
        raise


def _save_directory(store: Store, chosen: Chosen, path: str) -> None:
    if not path:
        raise UsageError(
            "an OCI directory cannot be written to standard output", hint="name it with --output"
        )
    if os.path.lexists(path) and (not os.path.isdir(path) or os.listdir(path)):
        raise Conflict(f"{path}: is there already and is not an empty directory")
    beside = f"{path.rstrip('/')}.{os.getpid()}~"

    def put(name: str, data: bytes) -> None:
        put_chunks(name, len(data), iter((data,)))

    def put_chunks(name: str, size: int, chunks: Iterator[bytes]) -> None:
        target = f"{beside}/{name}"
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as file:
            for chunk in chunks:
                file.write(chunk)

    try:
        os.mkdir(beside)
        oci_layout.save(store, chosen, put, put_chunks)
        os.rename(beside, path)
    except BaseException:
        from knarr.store.removal import remove_tree

        remove_tree(beside)
        raise
