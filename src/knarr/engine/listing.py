"""`ps`: one summary a container, read from small files; a container's own failure never hides the others."""

from __future__ import annotations

import time

from knarr.engine import state as states
from knarr.engine.container_dir import (
    ContainerConfig,
    ContainerDir,
    RunRecord,
    container_ids,
    name_owner,
    names,
)
from knarr.engine.mend import mend_all
from knarr.engine.options import ContainerOptions
from knarr.engine.process import command_of
from knarr.errors import DataError, NotFound, UsageError
from knarr.host.clock import ago, parse, text
from knarr.oci import json
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from knarr.engine.engine import Engine
    from knarr.engine.state import State

_COMMAND_WIDTH = 20


class Summary(Record):
    id: str
    config: ContainerConfig
    state: State
    run: RunRecord


class Filters:
    """`--filter key=value`, several of one key are alternatives, different keys must all hold."""

    _KEYS = ("id", "name", "label", "status", "exited", "ancestor", "network")

    def __init__(self, items: Sequence[str]) -> None:
        self._wanted: dict[str, list[str]] = {}
        for item in items:
            key, equals, value = item.partition("=")
            if not equals or key not in self._KEYS:
                raise UsageError(
                    f"invalid filter {item!r}", hint=f"as KEY=VALUE with {', '.join(self._KEYS)}"
                )
            self._wanted.setdefault(key, []).append(value)

    @property
    def needs_all(self) -> bool:
        """These filters speak of containers that do not run, so docker looks at those as well."""
        return "status" in self._wanted or "exited" in self._wanted

    def match(self, row: Summary) -> bool:
        return all(
            any(self._one(row, key, value) for value in values) for key, values in self._wanted.items()
        )

    def _one(self, row: Summary, key: str, value: str) -> bool:
        config = row.config
        if key == "id":
            return row.id.startswith(value)
        if key == "name":
            return value in config.name
        if key == "status":
            return row.state.status == value
        if key == "exited":
            return row.state.status == states.EXITED and str(row.state.exit_code) == value
        if key == "ancestor":
            return value in (config.image_name, config.image) or f"{value}:latest" == config.image_name
        if key == "network":
            return config.options.network.mode == value
        name, equals, wanted = value.partition("=")
        labels = labels_of(config)
        return name in labels and (not equals or labels[name] == wanted)


def labels_of(config: ContainerConfig) -> dict[str, str]:
    """The image's labels under the container's own."""
    return {**config.image_config.labels, **config.options.labels}


def summaries(engine: Engine, *, everything: bool, filters: Filters) -> list[Summary]:
    """Containers, the youngest first. Crash leftovers are mended on the way."""
    mend_all(engine)
    everything = everything or filters.needs_all
    rows = []
    for container_id in container_ids(engine.paths):
        directory = ContainerDir(engine.paths, container_id)
        try:
            state = states.read_state(directory)
            if not everything and not state.running:
                continue
            row = Summary(container_id, _config(engine, directory), state, directory.run_record())
        except NotFound:
            continue  # being created or removed at this moment
        if filters.match(row):
            rows.append(row)
    rows.sort(key=lambda row: row.config.created, reverse=True)
    return rows


def _config(engine: Engine, directory: ContainerDir) -> ContainerConfig:
    """A damaged container is listed as such, or nobody would find it to remove it."""
    try:
        return directory.config()
    except DataError:
        name = next((n for n in names(engine.paths) if name_owner(engine.paths, n) == directory.id), "")
        return ContainerConfig(
            directory.id, name, text(0), "", "<damaged>", (), ContainerOptions("<damaged>")
        )


def describe(row: Summary, *, full: bool) -> dict[str, str]:
    """The words of one line, under the keys of docker's templates."""
    config = row.config
    command = " ".join(command_of(config))
    if not full and len(command) > _COMMAND_WIDTH:
        command = command[: _COMMAND_WIDTH - 1] + "…"
    reference = time.time_ns()
    return {
        "ID": row.id if full else row.id[:12],
        "Image": config.image_name,
        "Command": f'"{command}"',
        "CreatedAt": config.created,
        "RunningFor": f"{_age(config.created, reference)} ago",
        "State": row.state.status,
        "Status": status_text(row.state, reference),
        "Ports": ", ".join(row.run.ports),
        "Names": config.name,
        "Labels": ",".join(f"{k}={v}" for k, v in labels_of(config).items()),
        "Networks": config.options.network.mode,
        "Mounts": ",".join(m.source or m.target for m in config.options.mounts),
        "LocalVolumes": json.dumps(len(config.volumes)),
    }


def _age(stamp: str, reference_ns: int) -> str:
    try:
        return ago(parse(stamp), reference_ns)
    except ValueError:
        return "an unknown time"  # a damaged record


def status_text(state: State, reference_ns: int) -> str:
    """`Up 5 minutes (Paused)`, `Exited (0) 2 hours ago`, `Created`."""
    if state.running:
        paused = " (Paused)" if state.status == states.PAUSED else ""
        return f"Up {_age(state.started_at, reference_ns).lower()}{paused}"
    if state.status == states.EXITED:
        when = f" {_age(state.finished_at, reference_ns)} ago" if state.finished_at else ""
        return f"Exited ({state.exit_code}){when}"
    return state.status.capitalize()
