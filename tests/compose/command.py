"""The commands that read docker-compose.yml: `docker compose` (version 2) and docker-compose 1.29.

Run as a module it builds version 2 from its Go module, for machines that have no package of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from functools import cached_property
from pathlib import Path

from testcontainers.compose import DockerCompose

from lab.binaries import CACHE
from tests.compose.images import ROOT

VERSION = "v2.39.4"
MODULE = "github.com/docker/compose/v2"
BUILT = CACHE / f"docker-compose-{VERSION}"
FILES = ("docker-compose.yml", "compose/small-disks.yml")
V1, V2 = "1.29", "v2"


def found(version: str) -> list[str] | None:
    """Return how the command of this version begins, None where it is not there."""
    standalone = ["docker-compose"]
    for argv in [standalone] if version == V1 else [["docker", "compose"], [os.fspath(BUILT)], standalone]:
        if _says(argv).startswith("1.29" if version == V1 else "2"):
            return argv
    return None


def _says(argv: list[str]) -> str:
    if shutil.which(argv[0]) is None:
        return ""
    said = subprocess.run([*argv, "version", "--short"], capture_output=True, text=True, check=False, timeout=60)
    return said.stdout.strip().removeprefix("v")


class Project(DockerCompose):
    """One project from docker-compose.yml on small disks, driven by the command that is named."""

    def __init__(self, argv: list[str], name: str, *, services: list[str] | None = None) -> None:
        super().__init__(context=ROOT, compose_file_name=list(FILES), wait=False, services=services)
        self._begins = [*argv, "--project-name", name, *(part for file in FILES for part in ("-f", file))]

    @cached_property
    def compose_command_property(self) -> list[str]:
        """Return how each command begins."""
        return self._begins

    def stop(self, down: bool = True) -> None:
        """End it at once: what leaves in order is a scenario of its own."""
        self._run_command(cmd=[*self._begins, "kill"])
        super().stop(down)


def build() -> None:
    """Build version 2 into the cache. Raises CalledProcessError."""
    if BUILT.exists():
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        (Path(folder) / "go.mod").write_text("module build\n", encoding="utf-8")
        flags = f"-s -w -X {MODULE}/internal.Version={VERSION}"
        for argv in (
            ["go", "mod", "edit", "-require", f"{MODULE}@{VERSION}"],
            ["go", "build", "-mod=mod", "-trimpath", "-ldflags", flags, "-o", "built", f"{MODULE}/cmd"],
        ):
            subprocess.run(argv, cwd=folder, env={**os.environ, "CGO_ENABLED": "0"}, check=True)
        (Path(folder) / "built").rename(BUILT)


if __name__ == "__main__":
    sys.stderr.write(f"docker compose {VERSION} (built once, about 3 minutes)\n")
    build()
    print(BUILT)
