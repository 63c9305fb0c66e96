"""The tests that need neither Postgres nor Kine, on each version of Python that pyproject.toml names: `make test-pythons`.

An interpreter is looked for on PATH and among pyenv's; each has a virtual environment of its own in build/pythons. Asked for
versions (`3.12 3.14`), it tries those alone. Exit codes: 0 all that were found are good, 1 one is not, 77 none was found.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = ROOT / "build" / "pythons"
TESTS = [f"tests/{one}" for one in ("core", "docs", "cli", "adapters", "api", "simulation")]
ANSWER_S = 20
NOTHING_TRIED = 77


def main() -> int:
    """Try each version and say what came of it."""
    told = {version: _tried(version) for version in sys.argv[1:] or named()}
    for version, outcome in told.items():
        _say(f"Python {version}: {outcome or 'good'}")
    if any(outcome is not None and not outcome.startswith("not tried") for outcome in told.values()):
        return 1
    return 0 if None in told.values() else NOTHING_TRIED


def named() -> list[str]:
    """Return the versions that the package says it is for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = [re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", one) for one in project["classifiers"]]
    return [one.group(1) for one in found if one is not None]


def interpreter(version: str) -> Path | None:
    """Return an interpreter of this version that runs and can make a virtual environment."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    on_path = [shutil.which(name) for name in (f"python{version}", "python3", "python")]
    candidates = [Path(one) for one in on_path if one is not None]
    for one in (*candidates, Path(sys.executable), *sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True)):
        if _says(one) == version:
            return one
    return None


def _says(program: Path) -> str | None:
    """Return the version of an interpreter; None where it does not run, as a shim of pyenv's for a version that is not chosen."""
    ask = "import sys, ensurepip, venv; print('{}.{}'.format(*sys.version_info))"
    try:
        done = subprocess.run([program, "-c", ask], capture_output=True, text=True, check=True, timeout=ANSWER_S)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _tried(version: str) -> str | None:
    """Return what is wrong with a version, None where all is good."""
    found = interpreter(version)
    if found is None:
        return f"not tried: there is no python{version} with venv on PATH, and none of pyenv's"
    folder = ENVIRONMENTS / version
    python = folder / "bin" / "python"
    if _says(python) != version:
        subprocess.run([found, "-m", "venv", "--clear", folder], check=True)
    _say(f"Python {version}: {found}, in {folder}")
    install: list[str | Path] = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--editable",
        f"{ROOT}[dev]",
    ]
    if subprocess.run(install, check=False).returncode:
        return "what pyproject.toml names cannot be installed"
    argv: list[str | Path] = [python, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", "-n", "2", *TESTS]
    code = subprocess.run(argv, cwd=ROOT, check=False).returncode
    return f"tests failed (exit code {code})" if code else None


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
