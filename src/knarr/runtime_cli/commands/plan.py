"""knarr-runtime plan"""

from __future__ import annotations

from knarr.cli.options import Command, Option
from knarr.plan.render import render
from knarr.plan.setup import Setting, container_plan
from knarr.runtime import placing
from knarr.runtime.bundle import read_bundle
from knarr.runtime_cli.making import CONFIG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.runtime_cli.context import Context


def _plan(context: Context) -> int:
    bundle = read_bundle(context.parsed.args[0], context.parsed.text("config"))
    container_id = context.parsed.text("id")
    terminal = bundle.spec.process is not None and bundle.spec.process.terminal
    where = Setting(
        cgroup=placing.place(context.facts, container_id, bundle.spec, systemd=context.systemd_cgroup),
        bundle=bundle.path,
        created_pause="created",
        console_fd=3 if terminal else -1,
    )
    plan = container_plan(bundle.spec, context.facts, where)
    print(render(plan), end="")
    return 0


COMMAND = Command(
    "plan",
    "Show the steps that a bundle's container is made of, each with where it comes from. Nothing is run.",
    "plan [OPTIONS] BUNDLE",
    _plan,
    (
        CONFIG,
        Option("id", "The container's id in them", default="ID"),
    ),
    minimum=1,
    maximum=1,
)
