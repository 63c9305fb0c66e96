"""What full fences compact, kept beside the table: a checker wants every change that there ever was.

The transaction that begins a leadership deletes what Kine would have (sql/lead.sql), and it alone has a table `beginning`. Its
trigger tells those deletions from a rejoin's, and says which leadership it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterable

    Row = tuple[Any, ...]

KEEP = """
CREATE TABLE public.lab_compacted AS
SELECT 0::bigint AS fence, id, name, created, deleted, create_revision, prev_revision, lease, value, old_value
FROM public.kine WITH NO DATA;
CREATE FUNCTION public.lab_keep() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  IF to_regclass('pg_temp.beginning') IS NOT NULL THEN
    INSERT INTO public.lab_compacted
    SELECT gap, OLD.id, OLD.name, OLD.created, OLD.deleted, OLD.create_revision, OLD.prev_revision, OLD.lease, OLD.value,
      OLD.old_value
    FROM pg_temp.beginning;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER lab_keep AFTER DELETE ON public.kine FOR EACH ROW EXECUTE FUNCTION public.lab_keep()
"""
KEPT = """
SELECT fence, id, name, created, deleted, create_revision, prev_revision, lease, value, old_value FROM public.lab_compacted
"""


@dataclass(frozen=True, slots=True)
class Compacted:
    """Rows that full fences compacted: of leaderships in the history of the final table, and of those that lost a split."""

    history: list[Row]
    lost: list[Row]

    def and_rows(self, rows: Iterable[Row]) -> list[Row]:
        """Return the whole history by id: these rows of the final table, and those that were compacted before."""
        return sorted({row[0]: row for row in (*self.history, *rows)}.values())


def keep_compacted(conninfo: str) -> None:
    """Have a node's Postgres keep what a full fence compacts, from now on."""
    with psycopg.connect(conninfo, autocommit=True) as session:
        session.execute(KEEP)


def compacted(conninfos: Iterable[str]) -> Compacted:
    """Return what both nodes' fences compacted, once their tables are equal."""
    kept: list[tuple[int, Row]] = []
    for conninfo in conninfos:
        with psycopg.connect(conninfo, autocommit=True) as session:
            fences = {row[0] for row in session.execute("SELECT first_revision FROM kine_failover.lineage")}
            kept += [(row[0], row[1:]) for row in session.execute(KEPT)]
    return Compacted(
        [row for fence, row in kept if fence in fences], [row for fence, row in kept if fence not in fences]
    )
