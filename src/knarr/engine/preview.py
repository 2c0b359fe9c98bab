"""`--plan` and `--print-spec`: what a run would do, made by the same code, done by none of it."""

from __future__ import annotations

import os

from knarr.engine import placing
from knarr.engine.container_dir import ContainerConfig, ContainerDir, RunRecord
from knarr.engine.create import with_runtime
from knarr.engine.spec import Surroundings, build_spec
from knarr.engine.spec_mounts import seeds
from knarr.engine.start import compile_plan
from knarr.engine.surroundings import FILES, Prepared
from knarr.engine.userns import id_maps, with_own_user
from knarr.host.clock import now
from knarr.host.users import identity_in
from knarr.network.attach import resolve_mode
from knarr.network.attachment import Attachment, loopback_step
from knarr.oci.document import encode
from knarr.plan.render import render

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.engine.engine import Engine
    from knarr.engine.options import ContainerOptions
    from knarr.store.store import Image

_ID = "0" * 64  # an id that no container has


def preview(engine: Engine, options: ContainerOptions, image: Image, *, spec_only: bool) -> str:
    """The runtime specification as JSON, or the steps. Nothing is leased, made or written: the network's own steps,
    which name an address that would have to be taken, are shown as its loopback only."""
    options = with_runtime(engine, with_own_user(options, engine.facts))
    config = ContainerConfig(
        _ID,
        options.name or "preview",
        now(),
        image.id,
        options.image,
        image.layers,
        options,
        image.config.config,
    )
    directory = ContainerDir(engine.paths, _ID)
    warnings: list[str] = []
    uid_maps, gid_maps = id_maps(options.security.userns, engine.facts, warnings)
    mode = resolve_mode(options.network.mode, engine.facts)
    attachment = Attachment(
        mode, "host" if mode == "host" else "new", child_steps=() if mode == "host" else (loopback_step(),)
    )
    around = Surroundings(
        account=identity_in(
            image.layers, options.user or image.config.config.user, options.security.group_add
        ),
        hostname=options.hostname or (os.uname().nodename if mode == "host" else _ID[:12]),
        rootfs=f"{directory.root}/rootfs",
        volumes={
            m.source: f"{engine.paths.root}/volumes/{m.source}/_data"
            for m in options.mounts
            if m.kind == "volume" and m.source
        },
        files={target: f"{directory.root}/{name}" for name, target in FILES.items()},
        network=attachment.namespace,
        uts="host" if mode == "host" and not options.hostname else "new",
        uid_maps=uid_maps,
        gid_maps=gid_maps,
    )
    spec = build_spec(config, engine.facts, around)
    if spec_only:
        import json

        return json.dumps(encode(spec), indent=2)
    place, warned = placing.place(
        engine.facts,
        _ID,
        spec.linux.resources,
        parent=options.cgroup_parent,
        foreground=True,
        every=bool(options.runtime),
    )
    filled = seeds(config, around.volumes)
    prepared = Prepared(
        around, attachment, RunRecord(), f"{directory.root}/work", (*warnings, *warned), filled
    )
    return render(compile_plan(engine, directory, config, prepared, spec, place, in_front=True)).rstrip("\n")
