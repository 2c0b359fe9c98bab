"""Images as they are read: by name, by id, all of them. On the start-up path: files and links only, no database.

images/HEX/image.json   {"manifest": DIGEST, "target": DIGEST, "size": BYTES, "layers": [DIFF ID, topmost first],
                         "config": {…}}
"""

from __future__ import annotations

import os

from knarr.errors import Conflict, DataError, UsageError
from knarr.oci import json
from knarr.oci.digest import Digest
from knarr.oci.document import decode
from knarr.oci.image import ImageConfig
from knarr.oci.reference import parse
from knarr.record import Record
from knarr.store.refs import all_refs, read_ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.oci.reference import Reference

_HEX = frozenset("0123456789abcdef")
_ID_LENGTH = 64


class Image(Record):
    """An image that is here. `layers` are directories, topmost first; `names` complete references, sorted."""

    id: Digest  # of its config
    manifest_digest: Digest
    config: ImageConfig
    layers: tuple[str, ...]
    names: tuple[str, ...]
    size_bytes: int  # unpacked
    target: Digest  # what its name stood for at the registry: the index where there was one

    @property
    def created(self) -> str:
        """RFC 3339, "" when the image does not say."""
        return self.config.created


class ImageFile(Record):
    """`image.json`."""

    manifest: str
    size: int
    layers: tuple[str, ...]
    config: ImageConfig
    target: str = ""


def find_image(root: str, text: str) -> Image | None:
    """The image of a name, an id, or an id's beginning that only one has (`Conflict` when several have it)."""
    image_hex = find_hex(root, text)
    return load_image(root, image_hex) if image_hex else None


def find_hex(root: str, text: str) -> str:
    """The hex part of that image's id, "" when there is none."""
    bare = text.removeprefix("sha256:")
    is_hex = bool(bare) and _HEX.issuperset(bare)
    if is_hex and len(bare) == _ID_LENGTH:
        return bare if os.path.isdir(f"{root}/images/{bare}") else ""
    try:
        reference = parse(text)
    except UsageError:
        reference = None
    image_hex = _by_name(root, reference) if reference else ""
    if not image_hex and is_hex and len(bare) < _ID_LENGTH:
        image_hex = _by_prefix(root, bare)
    return image_hex


def _by_name(root: str, reference: Reference) -> str:
    if not reference.digest:
        return read_ref(root, str(reference))
    wanted = str(reference._replace(tag=""))  # the digest decides, as docker has it
    found = read_ref(root, wanted)
    if found:
        return found
    for name, image_hex in all_refs(root):
        if parse(name).name == reference.name:
            image = load_image(root, image_hex, ())
            if image is not None and reference.digest in (image.manifest_digest, image.target):
                return image_hex
    return ""


def _by_prefix(root: str, prefix: str) -> str:
    matches = [name for name in image_ids(root) if name.startswith(prefix)]
    if len(matches) > 1:
        hint = "list them with `knarr images --no-trunc`"
        raise Conflict(f"more than one image's id begins with {prefix}", hint=hint)
    return matches[0] if matches else ""


def image_ids(root: str) -> list[str]:
    """The hex parts of the ids of all images, unordered."""
    try:
        return [name for name in os.listdir(f"{root}/images") if len(name) == _ID_LENGTH]
    except FileNotFoundError:
        return []


def load_image(root: str, image_hex: str, names: tuple[str, ...] | None = None) -> Image | None:
    """The image of an id's hex part, None when it is not here. `names` when they are known already."""
    file = read_image_file(root, image_hex)
    if file is None:
        return None
    if names is None:
        names = tuple(sorted(name for name, target in all_refs(root) if target == image_hex))
    layers = tuple(layer_directory(root, diff_id) for diff_id in file.layers)
    manifest = Digest(file.manifest)
    target = Digest(file.target) if file.target else manifest
    return Image(Digest(f"sha256:{image_hex}"), manifest, file.config, layers, names, file.size, target)


def read_image_file(root: str, image_hex: str) -> ImageFile | None:
    path = f"{root}/images/{image_hex}/image.json"
    try:
        with open(path, "rb") as file:
            return decode(ImageFile, json.loads(file.read()))
    except FileNotFoundError:
        return None
    except DataError as e:
        raise DataError(
            f"{path}: {e.message}", hint=f"remove the image with `knarr rmi -f {image_hex[:12]}`"
        ) from e


def layer_directory(root: str, diff_id: str) -> str:
    return f"{root}/layers/{Digest(diff_id).hex}/diff"


def all_images(root: str) -> list[Image]:
    """Every image with its names, unordered."""
    names: dict[str, list[str]] = {}
    for name, target in all_refs(root):
        names.setdefault(target, []).append(name)
    found = (load_image(root, i, tuple(sorted(names.get(i, ())))) for i in image_ids(root))
    return [image for image in found if image is not None]
