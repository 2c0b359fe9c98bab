"""Images as the commands see them: finding one, pulling it when it is missing, naming, removing, listing."""

from __future__ import annotations

import os

from knarr.errors import KnarrError, NotFound
from knarr.oci import reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.engine.engine import Engine
    from knarr.oci.digest import Digest
    from knarr.store.store import Image

PULL_ALWAYS = "always"
PULL_NEVER = "never"


def resolve(
    engine: Engine, name: str, *, pull: str = "missing", platform: str = "", quiet: bool = False
) -> Image:
    """The image of a name or an id, pulled first where `pull` (always, missing, never) says so.

    An image that is here for another platform than the one asked for counts as missing. Raises `NotFound`.
    """
    if pull != PULL_ALWAYS:
        image = engine.store.find_image(name)
        if image is not None and (not platform or _is_for(image, platform)):
            return image
        if pull == PULL_NEVER:
            raise NotFound("image", name, hint=f"fetch it with `knarr pull {name}`")
    reference.parse(name)
    code = pull_here(engine, name, platform=platform, quiet=quiet)
    if code:
        raise ToldAlready("")
    image = engine.store.find_image(name)
    if image is None:
        raise NotFound("image", name)
    return image


class ToldAlready(KnarrError):
    """The child process has said why; an empty message is not printed."""


def pull_here(engine: Engine, name: str, *, platform: str, quiet: bool) -> int:
    """Run `knarr pull` beside us, its lines on our standard error; its exit code.

    A process of its own: a pull imports what a start must not, and a user's pull runs inside a user namespace,
    which this process cannot enter and leave again.
    """
    import subprocess
    import sys

    words = [
        sys.executable,
        "-P",
        "-m",
        "knarr",
        "--root",
        engine.paths.root,
        "--run-root",
        engine.paths.run,
        "pull",
    ]
    words += ["--quiet"] if quiet else []
    words += ["--platform", platform] if platform else []
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH", "")))),
    }
    return subprocess.run(
        [*words, "--", name], stdin=subprocess.DEVNULL, stdout=2, env=env, check=False
    ).returncode


def _is_for(image: Image, platform: str) -> bool:
    from knarr.oci.image import Platform
    from knarr.oci.platform import matches, parse

    config = image.config
    return matches(
        parse(platform, os.uname().machine), Platform(config.architecture, config.os, variant=config.variant)
    )


def tag(engine: Engine, source: str, target: str) -> None:
    """Give an image another name."""
    image = engine.store.find_image(source)
    if image is None:
        raise NotFound("image", source, hint="list them with `knarr images`")
    engine.store.tag(image, reference.parse(target))


def users_of(engine: Engine, image_id: Digest) -> list[str]:
    """Ids of the containers that were made from an image."""
    from knarr.engine.container_dir import ContainerDir, container_ids

    users = []
    for container_id in container_ids(engine.paths):
        try:
            if ContainerDir(engine.paths, container_id).config().image == image_id:
                users.append(container_id)
        except KnarrError:
            continue
    return users


def listed(engine: Engine, name: str, *, full: bool, reference_ns: int) -> list[dict[str, str]]:
    """A row per name of each image, the youngest image first, under the keys of docker's templates."""
    from knarr.host.clock import ago, parse

    wanted = reference.parse(name).familiar if name else ""
    rows = []
    for image in sorted(engine.store.images(), key=lambda i: i.config.created, reverse=True):
        for shown in image.names or ("<none>",):
            parts = reference.parse(shown) if shown != "<none>" else None
            if wanted and (parts is None or wanted not in (parts.familiar, f"{parts.familiar_name}:latest")):
                continue
            created = image.config.created
            age = f"{ago(parse(created), reference_ns)} ago" if created else "N/A"
            rows.append(
                {
                    "Repository": parts.familiar_name if parts else "<none>",
                    "Tag": (parts.tag if parts else "") or "<none>",
                    "ID": str(image.id) if full else image.id.hex[:12],
                    "Digest": str(image.manifest_digest),
                    "CreatedAt": created,
                    "CreatedSince": age,
                    "Size": size_text(image.size_bytes),
                }
            )
    return rows


def size_text(count: int) -> str:
    """`4.26MB`: three digits and decimal units, as docker shows sizes."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            return f"{value:.3g}{unit}" if value < 1000 else f"{value:.0f}{unit}"
        value /= 1000
    raise AssertionError


def remove(engine: Engine, name: str, *, force: bool) -> list[str]:
    """Remove a name, and with the last one the image. Raises `NotFound`, `Conflict` when containers use it."""
    return engine.store.remove(name, in_use=lambda image_id: users_of(engine, image_id), force=force)


def save(engine: Engine, names: tuple[str, ...], path: str, form: str) -> None:
    """Write images to an archive at `path`, or to standard output."""
    from knarr.store.archive import save as write

    write(engine.store, names, path, form)


def load(engine: Engine, path: str) -> list[str]:
    """Read an archive or a layout at `path`, or from standard input; docker's lines about what was loaded."""
    from knarr.store.archive import load as read

    return read(engine.store, path)
