"""A write of Kine's that is never finished: `python -m chaos.unfinished ENDPOINT` has drawn a revision, and waits for ever."""

from __future__ import annotations

import signal
import sys

import psycopg

APPLICATION = "unfinished"
CONNECT_S = 2


def main(endpoint: str) -> None:
    """Do what Kine does between BEGIN and COMMIT, which is a way over the network apart."""
    with psycopg.connect(endpoint, application_name=APPLICATION, connect_timeout=CONNECT_S) as session:
        session.execute(
            "INSERT INTO kine (name, created, deleted, create_revision, prev_revision, lease) "
            "VALUES ('/unfinished', 1, 0, 0, 0, 0)"
        )
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1])
