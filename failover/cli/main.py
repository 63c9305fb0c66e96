"""The command `kine-failover`.

Exit codes: 0 done, 1 refused or not possible now, 2 bad usage or configuration, 3 the supervisor does not answer.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from failover import FILE_VARIABLE, __version__, config, start
from failover.cli import ask, bundle, divergence, doctor, drill, fleet, postgres_setup, setup
from failover.cli.outcome import NO_ANSWER, REFUSED, USAGE, RefusedError, UnreachableError
from failover.errors import ConfigError
from failover.ports import PortError

cli = typer.Typer(
    name="kine-failover",
    help="Keeps one leader over two Postgres + Kine nodes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
cli.add_typer(divergence.cli, name="divergence", help="What a split or a rejoin dropped: list, show, diff, reapply.")
config_cli = typer.Typer(no_args_is_help=True)
cli.add_typer(config_cli, name="config", help="Check or show the configuration.")

for command in (
    setup.init, setup.join, setup.certs, setup.front, postgres_setup.postgres_setup,
    ask.status, ask.watch, ask.history, ask.switchover, ask.failover,
    ask.leave, ask.pause, ask.reload, ask.resume, ask.resync, doctor.doctor, fleet.fleet, drill.scrub, drill.drill,
    bundle.support_bundle,
):  # fmt: skip
    cli.command()(command)

File = Annotated[Path, typer.Option("--config", "-c", envvar=FILE_VARIABLE, help="the configuration file")]


@cli.command()
def run(
    file: File = config.DEFAULT_FILE,
    *,
    ends_with_machine: Annotated[
        bool, typer.Option(start.ENDS_WITH_MACHINE, help="SIGTERM means that Kine ends too (a container): leave first")
    ] = False,
) -> None:
    """Run this node's supervisor until SIGTERM; Kine goes on after that, unless systemd stops the whole machine."""
    start.supervise(file, ends_with_machine=ends_with_machine)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"kine-failover {__version__}")
        raise typer.Exit


@cli.callback()
def options(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="show the version, and no more")
    ] = False,
) -> None:
    """Keeps one leader over two Postgres + Kine nodes."""


@cli.command()
def version() -> None:
    """Show the version."""
    typer.echo(__version__)


@config_cli.command("check")
def check(file: File = config.DEFAULT_FILE) -> None:
    """Check the configuration file; nothing is changed."""
    settings = config.load(file)
    timing = settings.timing.timing()
    typer.echo(
        f"{file}: good. degrade_after_s - promote_after_s = "
        f"{timing.degrade_after_s - timing.promote_after_s:.3g} s > {timing.slack_s():.3g} s"
    )


@config_cli.command("show")
def show(file: File = config.DEFAULT_FILE) -> None:
    """Show what is in force, defaults and environment included, without secrets."""
    typer.echo(config.load(file).model_dump_json(indent=2))


def main(arguments: list[str] | None = None) -> None:
    """Run the command; every expected error is one clear line."""
    try:
        code: Any = cli(arguments, standalone_mode=False)
    except typer.Abort:
        sys.exit(REFUSED)
    except ConfigError as error:
        _die(str(error), USAGE)
    except UnreachableError as error:
        _die(str(error), NO_ANSWER)
    except (RefusedError, PortError) as error:
        _die(str(error), REFUSED)
    except Exception as error:
        # Usage errors of the command line library carry their own text and code.
        show_usage = getattr(error, "show", None)
        if show_usage is None:
            raise
        show_usage()
        sys.exit(getattr(error, "exit_code", USAGE))
    sys.exit(code if isinstance(code, int) else 0)


def _die(text: str, code: int) -> None:
    for line in text.splitlines():
        typer.echo(f"kine-failover: {line}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
