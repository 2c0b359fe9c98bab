"""Create a container: its directory, its name, its configuration. Nothing runs yet."""

from __future__ import annotations

import errno
import os

from knarr.engine.container_dir import ContainerConfig, ContainerDir, create_dir, take_name
from knarr.engine.container_names import checked_name, draw_name, new_id
from knarr.engine.process import command_line
from knarr.engine.userns import with_own_user
from knarr.errors import Conflict, KnarrError, NotFound, UsageError
from knarr.host.clock import now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.engine.engine import Engine
    from knarr.engine.options import ContainerOptions
    from knarr.store.store import Image


def create(
    engine: Engine, options: ContainerOptions, image: Image, *, starts: bool = False
) -> tuple[ContainerDir, ContainerConfig, int]:
    """A container of `image`, its configuration, and its lock's descriptor, held.

    `starts`: it is started at once, and its configuration is synced meanwhile. The caller closes the descriptor, or
    hands it on to `start`. Raises `Conflict` when the name is taken and `UsageError` for what can never run; then
    nothing is left behind.
    """
    if options.name:
        options = options._replace(name=checked_name(options.name))
    options = with_own_user(options, engine.facts)
    options = with_runtime(engine, options)
    _check(options, image)
    _check_here(options)
    engine.prepare_directories()
    container_id = new_id()
    directory, lock = create_dir(engine.paths, container_id, once=starts and options.auto_remove)
    name = ""
    volumes = _anonymous_volumes(options, image)
    try:
        name = _name(engine, options.name, container_id)
        config = ContainerConfig(
            id=container_id,
            name=name,
            created=now(),
            image=image.id,
            image_name=options.image,
            layers=image.layers,
            options=options._replace(name=name),
            image_config=image.config.config,
            volumes=volumes,
        )
        directory.write_config(config, sync=not starts)
        if volumes:
            from knarr.engine.volumes import make_anonymous

            for volume in volumes.values():
                make_anonymous(
                    engine.paths, volume
                )  # only now: whatever ends us, they are known by the configuration
        if not engine.store.has_image(image.id):
            # `rmi` moves the image away and then looks for containers: one of the two sees the other.
            raise NotFound("image", options.image)
    except BaseException as e:
        from knarr.engine.remove import discard

        discard(engine.paths, directory, name)
        if volumes:
            from knarr.engine.volumes import remove_anonymous

            for volume in volumes.values():
                remove_anonymous(engine, volume)
        os.close(lock)
        if isinstance(e, OSError):
            hint = (
                "free some space: `knarr rmi IMAGE`, `knarr rm CONTAINER`" if e.errno == errno.ENOSPC else ""
            )
            raise KnarrError(f"create container: {(e.strerror or str(e)).lower()}", hint=hint) from e
        raise
    return directory, config, lock


def with_runtime(engine: Engine, options: ContainerOptions) -> ContainerOptions:
    """The chosen runtime, checked. Most machines have no settings for it: then that is all this costs."""
    if not options.runtime and not any(os.path.exists(f"{d}/runtimes.toml") for d in engine.paths.config):
        return options
    from knarr.engine import runtimes

    name = runtimes.chosen(engine.paths, options.runtime)
    if name:
        runtimes.refuse_together(name, init=options.init)
    return options._replace(runtime=name)


def _name(engine: Engine, asked: str, container_id: str) -> str:
    if asked:
        take_name(engine.paths, asked, container_id)
        return asked
    for attempt in range(20):
        name = draw_name(attempt)
        try:
            take_name(engine.paths, name, container_id)
            return name
        except Conflict:
            continue
    raise Conflict("no free container name was drawn in twenty attempts", hint="choose one with --name")


def _check(options: ContainerOptions, image: Image) -> None:
    """What needs no machine to be seen as impossible."""
    if not command_line(options, image.config.config):
        raise UsageError("no command specified, and the image has none")
    if options.workdir and not options.workdir.startswith("/"):
        raise UsageError(
            f"the working directory {options.workdir!r} is invalid, it needs to be an absolute path"
        )
    mode = options.network.mode
    shared = mode == "host" or mode.startswith("container:")
    if mode.startswith("container:") and (options.network.ports or options.network.publish_all):
        raise UsageError(
            "ports cannot be published with --network container:…: they belong to that container"
        )
    if mode.startswith("container:") and options.hostname:
        raise UsageError(
            "--hostname cannot be used with --network container:…: the host name is that container's"
        )
    if shared and (options.network.ip or options.network.mac_address):
        raise UsageError(f"addresses cannot be chosen with --network {mode}")
    targets = [m.target for m in options.mounts]
    for target in targets:
        if targets.count(target) > 1:
            raise UsageError(f"duplicate mount point: {target}")
    host = options.hostname
    if host and (len(host) > 64 or not all(c.isalnum() or c in "-._" for c in host) or not host.isascii()):
        raise UsageError(f"invalid hostname {host!r}")


def _check_here(options: ContainerOptions) -> None:
    """Docker's refusal of more than there is."""
    asked, there = options.limits.nano_cpus, os.cpu_count()
    if asked is not None and there and asked > there * 10**9:
        raise UsageError(f"--cpus {asked / 10**9:g}: this machine has {there}", hint=f"from 0.01 to {there}")


def _anonymous_volumes(options: ContainerOptions, image: Image) -> dict[str, str]:
    """New names by target: a volume for each `VOLUME` of the image that nothing else covers, and for each `-v /t`."""
    taken = {m.target for m in options.mounts if m.kind != "volume" or m.source}
    wanted = [t for t in image.config.config.volumes if t.startswith("/") and t.strip("/")]
    wanted += [m.target for m in options.mounts if m.kind == "volume" and not m.source]
    if not wanted:
        return {}
    return {t: os.urandom(32).hex() for t in dict.fromkeys(wanted) if t not in taken}
