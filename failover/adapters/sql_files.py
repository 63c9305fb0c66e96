"""The statements of sql/: one statement or one transaction a file, its purpose on top."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg import AsyncClientCursor, AsyncCursor
from psycopg.rows import dict_row, scalar_row
from psycopg.sql import SQL, Composable, Composed, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg import AsyncConnection

Row = dict[str, Any]
SEPARATOR = "\n;;\n"
IN_CHECKOUT = Path(__file__).parents[2] / "sql"


@cache
def text(name: str) -> str:
    """Return the text of sql/<name>.sql; from the package where it is installed, else from the checkout."""
    packaged = files("failover") / "sql" / f"{name}.sql"
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    return (IN_CHECKOUT / f"{name}.sql").read_text(encoding="utf-8")


async def run(connection: AsyncConnection[Any], name: str, **values: object) -> list[Row]:
    """Execute one file with these parameters and return the rows of its last statement.

    Parameters are bound on this side, so that a file may use them where the server's protocol allows none. A file with
    several statements runs in one transaction, within the caller's where there is one. Raises psycopg.Error.
    """
    statements = text(name).split(SEPARATOR)
    if len(statements) == 1:
        return await _one(connection, statements[0], values)
    async with connection.transaction():
        rows: list[Row] = []
        for statement in statements:
            rows = await _one(connection, statement, values)
    return rows


async def _one(connection: AsyncConnection[Any], statement: str, values: Mapping[str, object]) -> list[Row]:
    async with AsyncClientCursor(connection, row_factory=dict_row) as cursor:
        await cursor.execute(statement.encode(), values)
        return await cursor.fetchall() if cursor.description is not None else []


async def ask(connection: AsyncConnection[Any], name: str, **values: object) -> Any:
    """Return the one value that a file's one statement yields, None where it yields no row; for what is asked again and again.

    The server plans it once a session, for any values, and binds them: their types have to stand in the file. Raises
    psycopg.Error.
    """
    async with AsyncCursor(connection, row_factory=scalar_row) as cursor:
        await cursor.execute(_bare(name), values, prepare=True)
        return await cursor.fetchone()


@cache
def _bare(name: str) -> bytes:
    """Without what is for people: short enough that the driver, too, reads it only once."""
    lines = (line.strip() for line in text(name).splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("--")).encode()


def compose(name: str, **parts: Composable) -> Composed:
    """Return a file's statement with identifiers and literals put into its {braces}, for what takes no parameters.

    Without its comments: a replication connection would take the statement for one of SQL.
    """
    lines = [line for line in text(name).splitlines() if not line.startswith("--")]
    return SQL("\n".join(lines)).format(**parts)


def filled(name: str, **values: str) -> str:
    """Return a file's statements with literals in the places of parameters, for a person or psql to run."""
    literals = {key: Literal(value).as_string(None) for key, value in values.items()}
    return text(name).rstrip().replace(SEPARATOR, ";\n") % literals
