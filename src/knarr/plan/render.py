"""A plan as text, for `--plan` and for the golden tests: number, step, origin."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.plan.setup import Plan


def render(plan: Plan) -> str:
    """One line per step, numbered as a failure report numbers them (from 0); warnings below. Ends with a newline."""
    lines = []
    for number, step in enumerate(plan.steps):
        text = str(step)
        lines.append(f"{number:4}  {text:<72}  # {step.origin}")
    lines += [f"warning: {warning}" for warning in plan.warnings]
    return "\n".join(lines) + "\n"
