"""`make chaos-compose SCENARIO=...`: faults on the pair that `docker compose up` has started, judged by clients from outside.

Prints one JSON line a scenario. Exit codes: 0 all good, 1 something is wrong, 2 nothing to run it on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys

import docker
from docker.errors import DockerException

from lab.engine import address
from tests.compose.pair import ContainerPair, NotUpError
from tests.compose.scenarios import SCENARIOS, NotHereError, play


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="make chaos-compose")
    parser.add_argument("--scenario", choices=[*SCENARIOS, "all"], required=True)
    parser.add_argument("--project", default=os.environ.get("COMPOSE_PROJECT_NAME", ""))
    asked = parser.parse_args()
    try:
        engine = docker.DockerClient(base_url=_address(), timeout=60)
        names = list(SCENARIOS) if asked.scenario == "all" else [asked.scenario]
        with ContainerPair(engine, asked.project or _project(engine)) as pair:
            return asyncio.run(_play(pair, names))
    except (NotUpError, DockerException) as error:
        sys.stderr.write(f"{error}\n")
        return 2


async def _play(pair: ContainerPair, names: list[str]) -> int:
    wrong = 0
    for name in names:
        sys.stderr.write(f"{name}: {(SCENARIOS[name].__doc__ or '').strip()}\n")
        try:
            outcome = await play(pair, name)
            print(json.dumps(outcome.line()), flush=True)
            wrong += not outcome.good
        except NotHereError as error:
            print(json.dumps({"scenario": name, "skipped": str(error)}), flush=True)
            wrong += len(names) == 1
        except (AssertionError, TimeoutError) as error:
            wrong += 1
            print(json.dumps({"scenario": name, "wrong": str(error)[:2000]}), flush=True)
    return 1 if wrong else 0


def _address() -> str:
    found = address()
    if found is None:
        raise NotUpError("no Docker engine answers; start Docker, or set DOCKER_HOST")
    return found


def _project(engine: docker.DockerClient) -> str:
    """Return the one project that runs docker-compose.yml. Raises NotUpError."""
    label = "com.docker.compose.service=machine-0"
    running = engine.containers.list(filters={"label": label})
    projects = sorted({one.labels["com.docker.compose.project"] for one in running})
    if not projects:
        raise NotUpError("the pair is not up; `docker compose up --build --detach` first")
    if len(projects) > 1:
        raise NotUpError(f"several pairs are up; name one: COMPOSE_PROJECT_NAME={projects[0]} make chaos-compose ...")
    return str(projects[0])


if __name__ == "__main__":
    sys.exit(main())
