"""Write docs/configuration.md and docs/cli.md from the models and the command: `python docs/generate_reference.py`.

A test runs the same functions and fails where a page has not been written anew.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import typer.main
from typer.core import TyperGroup, TyperOption

from failover.cli.main import cli
from failover.config import DEFAULT_FILE, ENVIRONMENT, Section, Settings
from failover.core.timing import PRESETS, Timing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

HERE = Path(__file__).resolve().parent
NAME = "kine-failover"


def configuration_page() -> str:
    """Return docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        f"One TOML file, `{DEFAULT_FILE}` unless `--config` or `KINE_FAILOVER_CONFIG` names another. The environment overrides",
        f"it: `{ENVIRONMENT}<SECTION>__<KEY>`. A key that is not known, or a value that cannot be, is refused before anything is",
        "touched, with file, key, value and remedy; `kine-failover config check` says so beforehand, and `config show` what is",
        "in force.",
        "",
    ]
    for name, section in sections(Settings):
        lines += [f"## [{name}]", "", (section.__doc__ or "").strip().splitlines()[0], ""]
        lines += ["| key | default | what it is |", "|---|---|---|"]
        lines += [
            f"| `{key}` | {default(field)} | {described(field)} |"
            for key, field in section.model_fields.items()
            if section_of(field) is None
        ]
        lines.append("")
    lines += ["## Presets of [timing]", "", f"| key | {' | '.join(PRESETS)} |", "|---|" + "---|" * len(PRESETS)]
    lines += [
        f"| `{name}` | " + " | ".join(f"{getattr(preset, name):g}" for preset in PRESETS.values()) + " |"
        for name in Timing.__struct_fields__
    ]
    return "\n".join(lines) + "\n"


def sections(model: Any, prefix: str = "") -> Iterator[tuple[str, type[Section]]]:
    """Yield every section with its name in the file."""
    for key, field in model.model_fields.items():
        section = section_of(field)
        if section is not None:
            yield prefix + key, section
            yield from sections(section, f"{prefix}{key}.")


def section_of(field: FieldInfo) -> type[Section] | None:
    """Return the section that a field is, None where it is a value."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if isinstance(kind, type) and issubclass(kind, Section):
            return kind
    return None


def default(field: FieldInfo) -> str:
    """Return the default as the file would say it."""
    if field.is_required():
        return "must be set"
    value = field.default
    if value is None or value == ():
        return "not set" if value is None else "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def described(field: FieldInfo) -> str:
    """Return what the field is for, and what it may be where that is a list."""
    kind = field.annotation
    if get_origin(kind) is Literal:
        choices = [str(one) for one in get_args(kind)]
    elif isinstance(kind, type) and issubclass(kind, Enum):
        choices = [str(one.value) for one in kind]
    else:
        choices = []
    if not field.description:
        raise ValueError(f"a key of the configuration without a description: {field}")
    return field.description + (f" ({', '.join(choices)})" if choices else "")


def cli_page() -> str:
    """Return docs/cli.md."""
    lines = [
        "# Command line",
        "",
        "Exit codes: 0 done; 1 refused or not possible now, with why and what to do; 2 bad usage or configuration, nothing was",
        "changed; 3 the supervisor does not answer.",
        "",
    ]
    for name, command in commands(typer.main.get_command(cli)):
        lines += [f"## {name}", "", *(command.help or "").strip().splitlines(), ""]
        arguments = [one for one in command.params if "--help" not in one.opts]
        if arguments:
            lines += ["| argument | default | what it is |", "|---|---|---|"]
            lines += [argument(one) for one in arguments] + [""]
    return "\n".join(lines).rstrip() + "\n"


def commands(group: Any, prefix: str = NAME) -> Iterator[tuple[str, Any]]:
    """Yield every command, by its whole name."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, f"{prefix} {name}")
        elif not command.hidden:
            yield f"{prefix} {name}", command


def argument(parameter: Any) -> str:
    """Return a row of a command's table."""
    flag = isinstance(parameter, TyperOption) and parameter.is_flag
    told = "" if flag or parameter.default is None or callable(parameter.default) else f"`{parameter.default}`"
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    return f"| {names} | {'must be given' if parameter.required else told} | {parameter.help or ''} |"


def main() -> None:
    """Write both pages."""
    (HERE / "configuration.md").write_text(configuration_page())
    (HERE / "cli.md").write_text(cli_page())


if __name__ == "__main__":
    main()
