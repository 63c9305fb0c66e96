"""Builds what the tests of this folder run: kube-apiserver from its Go module, and the clients beside this file.

Everything is built once and cached. Run as a module to do it beforehand.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from lab.binaries import CACHE, MissingProgramError, named_by, show_progress

MINOR, PATCH = 34, 4
VERSION = f"v1.{MINOR}.{PATCH}"
STAGED = f"v0.{MINOR}.{PATCH}"  # what the modules under staging/ are published as
MODULE = "k8s.io/kubernetes"
CLIENTS = Path(__file__).parent / "clients"


def api_server() -> Path:
    """Return kube-apiserver: $KUBE_APISERVER, the cache, else built with Go. Raises MissingProgramError."""
    named = named_by("KUBE_APISERVER")
    if named is not None:
        return named
    cached = CACHE / f"kube-apiserver-{VERSION}"
    return cached if cached.exists() else _build_api_server(cached)


def clients() -> Path:
    """Return the program of the clients, built anew when their sources change. Raises MissingProgramError."""
    digest = hashlib.sha256()
    for path in sorted(CLIENTS.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    cached = CACHE / f"kubernetes-clients-{digest.hexdigest()[:16]}"
    return cached if cached.exists() else _build_clients(cached)


def _build_api_server(target: Path) -> Path:
    """The module itself can't be built from outside: it replaces its staging modules by folders that only its
    repository has. So a module of our own requires it and replaces each by what is published.
    """
    with _workshop(target) as name:
        folder = Path(name)
        downloaded = json.loads(_run(folder, "go", "mod", "download", "-json", f"{MODULE}@{VERSION}"))
        described = json.loads(_run(folder, "go", "mod", "edit", "-json", downloaded["GoMod"]))
        staged = [one["Old"]["Path"] for one in described["Replace"] if one["New"]["Path"].startswith("./staging/")]
        lines = [
            "module build",
            f"go {described['Go']}",
            f"godebug default=go{'.'.join(described['Go'].split('.')[:2])}",
            f"require {MODULE} {VERSION}",
            *(f"replace {one} => {one} {STAGED}" for one in staged),
        ]
        (folder / "go.mod").write_text("\n".join(lines) + "\n", encoding="utf-8")
        stamp = "k8s.io/component-base/version"
        flags = f"-s -w -X {stamp}.gitVersion={VERSION} -X {stamp}.gitMajor=1 -X {stamp}.gitMinor={MINOR}"
        _run(
            folder, "go", "build", "-mod=mod", "-trimpath", "-ldflags", flags, "-o", "built", f"{MODULE}/cmd/kube-apiserver",
            what=f"building kube-apiserver {VERSION} (about 3 minutes, once)",
        )  # fmt: skip
        (folder / "built").rename(target)
    return target


def _build_clients(target: Path) -> Path:
    with _workshop(target) as name:
        folder = Path(name)
        for path in CLIENTS.iterdir():
            shutil.copy(path, folder)
        _run(
            folder, "go", "build", "-mod=readonly", "-trimpath", "-ldflags", "-s -w", "-o", "built", ".",
            what="building the clients (about 1 minute, once)",
        )  # fmt: skip
        (folder / "built").rename(target)
    return target


def _workshop(target: Path) -> tempfile.TemporaryDirectory[str]:
    target.parent.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(dir=target.parent, prefix="build-")


def _run(folder: Path, *argv: str, what: str | None = None) -> str:
    """Run one command of Go there and return what it printed. Raises MissingProgramError with the end of its errors."""
    if shutil.which("go") is None:
        raise MissingProgramError(
            "no Go on PATH: it builds kube-apiserver (or name one in $KUBE_APISERVER) and the clients"
        )
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-modcacherw"}
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            ["nice", "-n", "10", *argv], cwd=folder, env=environment, stdout=output, stderr=errors
        )
        if what is not None:
            show_progress(process, what)
        if process.wait():
            errors.seek(0)
            raise MissingProgramError(f"`{' '.join(argv)}` failed\n{errors.read()[-2000:]}")
        output.seek(0)
        return output.read()


def main() -> None:
    """Build everything and say where it is."""
    print(f"kube-apiserver: {api_server()}")
    print(f"clients: {clients()}")


if __name__ == "__main__":
    try:
        main()
    except MissingProgramError as error:
        sys.exit(str(error))
