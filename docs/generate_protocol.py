"""Write docs/protocol.md and the role diagram of docs/architecture.md from the rule table: `python docs/generate_protocol.py`.

A test runs the same functions and fails where a page has not been written anew.
"""

from __future__ import annotations

from pathlib import Path

from failover.core.model import Role
from failover.core.plans import PLANS
from failover.core.rules import RULES, Decision, Rule

HERE = Path(__file__).resolve().parent
MARK_BEGIN = "<!-- generated: roles -->"
MARK_END = "<!-- end of generated -->"

BECOMES = {
    Decision.START_OVER: Role.STARTING,
    Decision.FOLLOW: Role.FOLLOWER,
    Decision.HALT: Role.HALTED,
    Decision.RESUME: Role.LEADER,
    Decision.REOPEN: Role.LEADER,
    Decision.PROMOTE: Role.PROMOTING,
    Decision.LATE_FENCE: Role.PROMOTING,
    Decision.HAND_OVER: Role.DEMOTING,
    Decision.YIELD: Role.DEMOTING,
    Decision.RESOLVE: Role.DEMOTING,
    Decision.REJOIN: Role.RESYNCING,
}


def axis_words(rule: Rule) -> str:
    """Return the row's conditions as `axis: value, value`; a set that is larger than its complement is told by it."""
    words = []
    for axis, values in rule.when.items():
        some = next(iter(values))
        if isinstance(some, bool):
            words.append(axis if some else f"not {axis}")
            continue
        rest = sorted(set(type(some)) - set(values))
        told = "not " + ", ".join(rest) if 0 < len(rest) < len(values) else ", ".join(sorted(values))
        words.append(f"{axis}: {told}")
    return "; ".join(words) or "always"


def protocol_page() -> str:
    """Return docs/protocol.md."""
    lines = [
        "# The protocol, row by row",
        "",
        "Generated from `failover/core/rules.py` and `failover/core/plans.py` by `python docs/generate_protocol.py`.",
        "The words on the axes are defined in `failover/core/evidence.py`. Every cell that can be reached lies in exactly",
        "one row; `tests/core/test_rules.py` proves it by trying them all.",
        "",
    ]
    for role in Role:
        lines += [f"## {role}", "", "| row | when | decision | because |", "|---|---|---|---|"]
        lines += [
            f"| {rule.name} | {axis_words(rule)} | {rule.decision} | {rule.why} |"
            for rule in RULES
            if rule.role is role
        ]
        lines.append("")
    lines += ["## Plans", ""]
    for plan in PLANS:
        lines += [f"### {plan.name}", "", f"To {plan.why}. ", ""]
        needs = dict(plan.needs)
        for number, step in enumerate(plan.steps, 1):
            lines.append(f"{number}. `{step}`" + (f" (needs {needs[step]})" if step in needs else ""))
        if plan.point_of_no_return is not None:
            lines += [
                "",
                f"Just before `{plan.point_of_no_return}` the rule is asked again, with all that has come in by then.",
            ]
        undone = ", ".join(f"`{step}`" for step in plan.undo)
        lines += [
            "",
            f"Then {plan.then}; if a step fails {plan.failed}" + (f", after {undone}" if undone else "") + ".",
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


def role_diagram() -> str:
    """Return the diagram of the roles, in Mermaid."""
    arrows: dict[tuple[str, str], set[str]] = {}
    for rule in RULES:
        to = BECOMES.get(rule.decision)
        if to is not None and to is not rule.role:
            arrows.setdefault((rule.role, to), set()).add(rule.decision)
    for plan in PLANS:
        if plan.role is not None:
            arrows.setdefault((plan.role, plan.then), set()).add("done")
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> starting"]
    lines += [f"    {a} --> {b}: {', '.join(sorted(how))}" for (a, b), how in sorted(arrows.items())]
    return "\n".join([*lines, "```"])


def architecture_page(page: str) -> str:
    """Return docs/architecture.md with the diagram of now between its marks."""
    before, rest = page.split(MARK_BEGIN)
    after = rest.split(MARK_END)[1]
    return f"{before}{MARK_BEGIN}\n{role_diagram()}\n{MARK_END}{after}"


def main() -> None:
    """Write both pages."""
    (HERE / "protocol.md").write_text(protocol_page())
    architecture = HERE / "architecture.md"
    architecture.write_text(architecture_page(architecture.read_text()))


if __name__ == "__main__":
    main()
