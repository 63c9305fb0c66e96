"""What the tests of this folder start with."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from lab.binaries import MissingProgramError
from tests.kubernetes import programs
from tests.kubernetes.site import Site

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager


@pytest.fixture(scope="session")
def built() -> None:
    """Everything that has to be built is."""
    try:
        programs.api_server()
        programs.clients()
    except MissingProgramError as error:
        pytest.skip(str(error))


@pytest.fixture
def running_site(built: None) -> Callable[..., AbstractAsyncContextManager[Site]]:  # noqa: ARG001 - must be there
    """A site in sync; everything is ended and removed afterwards."""

    @contextlib.asynccontextmanager
    async def start(extra: Mapping[str, str] | None = None) -> AsyncIterator[Site]:
        async with Site(extra or {}) as site:
            yield site

    return start
