"""Remove images, and collect what nothing needs any more. Off the start-up path.

Needed is what an image uses, what a living session relies on, and the layers of every container. An image is moved
away first and its containers are asked again after: `create` writes its container first and then looks for the
image, so one of the two sees the other.
"""

from __future__ import annotations

import os

from knarr.errors import Conflict, DataError, NotFound, UsageError
from knarr.oci import json
from knarr.oci.digest import Digest
from knarr.oci.reference import parse
from knarr.record import Record
from knarr.store.flush import sync
from knarr.store.images import all_images, find_hex, find_image
from knarr.store.refs import all_refs, remove_ref
from knarr.store.removal import remove_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from knarr.store.images import Image
    from knarr.store.writer import Writer

    InUse = Callable[[Digest], list[str]]


class Collected(Record):
    """What a collection removed."""

    layers: tuple[str, ...]  # diff ids
    blobs: int
    freed_bytes: int


def container_layers(root: str) -> set[str]:
    """Hex parts of the diff ids that containers are made of, whether their image is still here or not."""
    found: set[str] = set()
    try:
        containers = os.listdir(f"{root}/containers")
    except FileNotFoundError:
        return found
    prefix = f"{root}/layers/"
    for container in containers:
        try:
            with open(f"{root}/containers/{container}/config.json", "rb") as file:
                layers = json.loads(file.read()).get("layers", ())
        except (FileNotFoundError, NotADirectoryError):
            continue  # being made: it checks for its image once it is there
        except (DataError, AttributeError):
            raise Conflict(
                f"container {container[:12]} cannot be read, so nobody knows which layers it needs",
                hint=f"remove it with `knarr rm -f {container[:12]}`",
            ) from None
        for layer in layers:
            found.add(str(layer).removeprefix(prefix).partition("/")[0])
    return found


def remove(writer: Writer, text: str, in_use: InUse, *, force: bool) -> list[str]:
    """Remove a name, and with the last one the image; docker's lines about what was done."""
    try:
        image = find_image(writer.root, text)
    except DataError:
        if force:
            return _delete_damaged(writer, Digest(f"sha256:{find_hex(writer.root, text)}"))
        raise
    if image is None:
        raise NotFound("image", text, hint="list them with `knarr images`")
    names = _named(image, text)
    if names:
        going = [*names, *_orphaned_digests(image, names)]
        if set(going) != set(image.names):
            return [_untag(writer, name) for name in going]
    elif len({parse(name).name for name in image.names}) > 1 and not force:
        raise Conflict(
            f"unable to remove image {image.id.hex[:12]}: it has several names: "
            + ", ".join(parse(name).familiar for name in image.names),
            hint=f"remove them all with `knarr rmi -f {image.id.hex[:12]}`",
        )
    return _delete(writer, image, in_use, force=force)


def _named(image: Image, text: str) -> list[str]:
    """The name that was meant, as a list; empty when an id was meant."""
    try:
        name = str(parse(text))
    except UsageError:
        return []
    return [name] if name in image.names else []


def _orphaned_digests(image: Image, going: list[str]) -> list[str]:
    """Names by digest say where a tag came from: they go with the last tag of their repository."""
    staying = {parse(n).name for n in image.names if "@" not in n and n not in going}
    repositories = {parse(n).name for n in going}
    return [
        n for n in image.names
        if "@" in n and n not in going and parse(n).name in repositories and parse(n).name not in staying
    ]  # fmt: skip


def _untag(writer: Writer, name: str) -> str:
    remove_ref(writer.root, name)
    return f"Untagged: {parse(name).familiar}"


def _delete(writer: Writer, image: Image, in_use: InUse, *, force: bool) -> list[str]:
    _refuse_used(image, in_use(image.id), force)
    place = f"{writer.root}/images/{image.id.hex}"
    aside = writer.session.free_path("image")
    with writer.db.changing():  # or a collection would take the names of an image that comes back
        try:
            os.rename(place, aside)
        except FileNotFoundError:
            raise NotFound("image", image.id.hex[:12]) from None  # another command was quicker
        try:
            _refuse_used(image, in_use(image.id), force)
        except BaseException:
            os.rename(aside, place)
            raise
    return _forget(writer, image.id, aside)


def _forget(writer: Writer, image_id: Digest, aside: str) -> list[str]:
    """What is left to do once the image has been moved away."""
    lines = [_untag(writer, name) for name, target in sorted(all_refs(writer.root)) if target == image_id.hex]
    sync(f"{writer.root}/images")
    writer.db.execute("DELETE FROM uses WHERE image = ?", image_id)
    remove_tree(aside)
    collected = collect(writer)
    return [*lines, f"Deleted: {image_id}", *(f"Deleted: {diff_id}" for diff_id in collected.layers)]


def _delete_damaged(writer: Writer, image_id: Digest) -> list[str]:
    """An image whose document cannot be read any more. Its containers keep their layers."""
    aside = writer.session.free_path("image")
    os.rename(f"{writer.root}/images/{image_id.hex}", aside)
    return _forget(writer, image_id, aside)


def _refuse_used(image: Image, users: list[str], force: bool) -> None:
    if users and not force:
        shown = parse(image.names[0]).familiar if image.names else image.id.hex[:12]
        raise Conflict(
            f"unable to remove image {shown}: container {users[0][:12]} is using it",
            hint=f"remove it first with `knarr rm {users[0][:12]}`, or use `knarr rmi -f`",
        )


def prune(writer: Writer, in_use: InUse, *, everything: bool) -> tuple[list[str], Collected]:
    """Delete images without a name (`everything`: all that no container uses), then collect."""
    lines = []
    for image in all_images(writer.root):
        if (everything or not image.names) and not in_use(image.id):
            try:
                lines += _delete(writer, image, in_use, force=False)
            except Conflict:
                continue  # a container was created meanwhile
    freed = writer.session.sweep_partial(0)
    collected = collect(writer)
    return lines, collected._replace(freed_bytes=collected.freed_bytes + freed)


def collect(writer: Writer) -> Collected:
    """Delete layers and blobs that nothing needs.

    They are moved away inside the one transaction that read who needs them: a pin that comes later finds them gone.
    """
    db, root = writer.db, writer.root
    moved: list[str] = []
    layers: list[str] = []
    freed = blobs = 0
    with db.changing():
        for (image,) in db.execute("SELECT DISTINCT image FROM uses"):
            pinned = db.execute("SELECT 1 FROM pins WHERE digest = ?", image)
            if not pinned and not os.path.isdir(f"{root}/images/{Digest(str(image)).hex}"):
                db.execute("DELETE FROM uses WHERE image = ?", image)  # a kill came between
        for ref, image_hex in all_refs(root):
            if not os.path.isdir(f"{root}/images/{image_hex}"):
                remove_ref(root, ref)  # here, too
        needed = {str(d) for (d,) in db.execute("SELECT digest FROM uses UNION SELECT digest FROM pins")}
        needed |= {f"sha256:{layer}" for layer in container_layers(root)}
        for name in os.listdir(f"{root}/layers"):
            if f"sha256:{name}" in needed:
                continue
            rows = db.execute("SELECT size FROM layers WHERE diff_id = ?", f"sha256:{name}")
            freed += int(str(rows[0][0])) if rows else 0
            moved.append(writer.session.free_path("layer"))
            os.rename(f"{root}/layers/{name}", moved[-1])
            db.execute("DELETE FROM layers WHERE diff_id = ?", f"sha256:{name}")
            layers.append(f"sha256:{name}")
        for algorithm in os.listdir(f"{root}/blobs"):
            for name in os.listdir(f"{root}/blobs/{algorithm}"):
                if f"{algorithm}:{name}" in needed:
                    continue
                path = f"{root}/blobs/{algorithm}/{name}"
                freed += os.stat(path).st_size
                blobs += 1
                os.unlink(path)
                db.execute("DELETE FROM blobs WHERE digest = ?", f"{algorithm}:{name}")
    for path in moved:
        remove_tree(path)
    return Collected(tuple(layers), blobs, freed)
