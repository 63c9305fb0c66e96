"""The supervisor is no superuser: what it may, what it may not, and how both nodes reach each other."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from failover import certificates
from failover.adapters import postgres_setup
from failover.adapters.clock import SystemClock
from failover.adapters.postgres import OwnPostgres
from failover.adapters.sessions import PostgresTimeouts
from failover.core.model import Kind, LineageEntry
from lab.postgres_server import KINE_ROLE, SUPERUSER, SUPERVISOR, PostgresServer
from lab.servers import servers

if TYPE_CHECKING:
    from pathlib import Path

    from lab import binaries

PASSWORD = "pass-w'ord \\ \" %s"  # noqa: S105 - of servers that live for one test
FORBIDDEN = {
    "ALTER ROLE kine NOLOGIN": "permission denied|CREATEROLE",
    "CREATE ROLE another": "permission denied",
    "ALTER SYSTEM SET archive_command = 'true'": "permission denied",
    "COPY kine TO '/tmp/kine'": "permission denied|pg_write_server_files",
    "COPY kine TO PROGRAM 'true'": "permission denied|pg_execute_server_program",
    "SELECT pg_read_file('PG_VERSION')": "permission denied",
    "SELECT rolpassword FROM pg_authid": "permission denied",
    "SELECT kine_failover_admin.subscribe('other', '')": "not a name of ours",
    "CREATE OR REPLACE FUNCTION kine_failover_admin.version() RETURNS integer LANGUAGE sql AS 'SELECT 2'": "denied|owner",
}


def setup_of(server: PostgresServer) -> postgres_setup.Setup:
    return postgres_setup.Setup(
        database="kine", supervisor=SUPERVISOR, kine_role=KINE_ROLE, os_user="nobody", data=server.data,
        listen=("127.0.0.1",), own=("127.0.0.1",), peer=("127.0.0.1",),
        supervisor_password=PASSWORD, kine_password=PASSWORD,
    )  # fmt: skip


def set_up(server: PostgresServer) -> postgres_setup.Setup:
    """Everything that `postgres-setup` prints goes where it says; the server's own key and certificate are the node's."""
    setup = setup_of(server)
    psql: list[str | Path] = [server.programs / "psql", "-X", "-v", "ON_ERROR_STOP=1", "-d", server.conninfo(SUPERUSER)]
    for _ in range(2):  # again is no error
        done = subprocess.run(psql, input=postgres_setup.sql(setup), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    certificates.create(server.folder / "tls", "shop")
    for name in ("node-0.crt", "node-0.key"):
        shutil.move(server.folder / "tls" / name, server.data / name)
        if server.user is not None:
            shutil.chown(server.data / name, server.user)
    lines = postgres_setup.hba(setup)
    tls = "ssl = on\nssl_cert_file = 'node-0.crt'\nssl_key_file = 'node-0.key'\n"
    if not encrypts(server):
        lines, tls = lines.replace("hostssl", "host"), ""
    with (server.data / "postgresql.conf").open("a") as configuration:
        configuration.write(tls)
    (server.data / "pg_hba.conf").write_text(f"local all {SUPERUSER} trust\n{lines}")
    (server.data / "pg_ident.conf").write_text(postgres_setup.ident(setup))
    server.stop()
    server.start()
    return setup


def encrypts(server: PostgresServer) -> bool:
    """Whether this Postgres is built with TLS; the one of the wheel is not."""
    said = subprocess.run([server.programs / "pg_config", "--configure"], capture_output=True, text=True, check=True)
    return "openssl" in said.stdout


def conninfo(server: PostgresServer, role: str = SUPERVISOR) -> str:
    tls = {"sslmode": "require", "channel_binding": "require"} if encrypts(server) else {"sslmode": "disable"}
    return psycopg.conninfo.make_conninfo(
        host="127.0.0.1", port=server.port, user=role, dbname="kine", password=PASSWORD, **tls
    )


def test_it_may_not_do_more_than_it_must(each_postgres: binaries.Postgres) -> None:
    with (
        servers(each_postgres) as (server,),
        psycopg.connect(server.conninfo(), autocommit=True, options="-c search_path=public") as session,
    ):
        session.execute("CREATE TABLE kine (id int)")
        for statement, refusal in FORBIDDEN.items():
            with pytest.raises(psycopg.Error, match=refusal):
                session.execute(statement.encode())
        with psycopg.connect(server.conninfo(SUPERUSER), autocommit=True) as superuser:
            superuser.execute("SET SESSION AUTHORIZATION kine")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):  # Kine cannot open its own fence
                superuser.execute("SELECT kine_failover_admin.admit_kine(true)")


ALL_ROLES = "local all all peer\nhost all all 127.0.0.1/32 scram-sha-256\n"  # as Debian has them


def test_doctor_sees_whether_a_line_lets_kine_past_the_fence(each_postgres: binaries.Postgres) -> None:
    with servers(each_postgres) as (server,):
        lines = postgres_setup.hba(set_up(server))
        for content, fenced in (
            (lines, True),
            (lines + ALL_ROLES, True),
            (ALL_ROLES + lines, False),
            (lines.replace("reject", "scram-sha-256"), False),
            ("".join(line for line in lines.splitlines(keepends=True) if "reject" not in line) + ALL_ROLES, False),
        ):
            (server.data / "pg_hba.conf").write_text(content)
            with psycopg.connect(server.conninfo(SUPERUSER), autocommit=True) as session:
                row = session.execute("SELECT fenced FROM kine_failover_admin.look_at_hba()").fetchone()
            assert row == (fenced,), content


def test_postgres_listens_where_the_supervisor_does(each_postgres: binaries.Postgres) -> None:
    with servers(each_postgres) as (server,):
        for listen, reached in (
            ("127.0.0.1", {"127.0.0.1"}),
            ("127.0.0.2", {"127.0.0.1", "127.0.0.2"}),  # localhost always
            ("0.0.0.0", {"127.0.0.1", "127.0.0.2", "127.0.0.3"}),  # noqa: S104
        ):
            statements = postgres_setup.sql(replace(setup_of(server), listen=(listen,)))
            (line,) = [one for one in statements.splitlines() if "listen_addresses" in one]
            with psycopg.connect(server.conninfo(SUPERUSER), autocommit=True) as session:
                session.execute(line.encode())
            server.stop()
            server.start()
            assert {host for host in ("127.0.0.1", "127.0.0.2", "127.0.0.3") if listens(host, server.port)} == reached


def listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=10).close()
    except ConnectionRefusedError:
        return False
    return True


async def test_set_up_with_passwords_it_leads_follows_and_fences(each_postgres: binaries.Postgres) -> None:
    with servers(each_postgres, 2) as (leader, follower):
        for one in (leader, follower):
            set_up(one)
        own = [
            OwnPostgres(conninfo(one), conninfo(one, KINE_ROLE), SystemClock(), PostgresTimeouts())
            for one in (leader, follower)
        ]
        try:
            await own[0].found(LineageEntry("first", 2, 0, Kind.LEAD, "test", 0, 0, 0))
            await own[0].open_to_kine(2)  # returns when Kine's role has logged in with its password
            await own[1].prepare()
            streams_without_superuser(leader, follower)
            await own[0].close_to_kine(3)
            assert not (await own[0].status()).is_open
        finally:
            for each in own:
                await each.close()


def streams_without_superuser(leader: PostgresServer, follower: PostgresServer) -> None:
    slot = "kf_1_test"
    with psycopg.connect(conninfo(leader), autocommit=True, options="-c search_path=public") as there:
        with psycopg.connect(f"{conninfo(leader)} replication=database", autocommit=True) as walsender:
            psycopg.ClientCursor(walsender).execute(f"CREATE_REPLICATION_SLOT {slot} LOGICAL pgoutput".encode())
        with psycopg.connect(conninfo(follower), autocommit=True, options="-c search_path=public") as here:
            # What Kine's role puts on its table is not done with a superuser's rights.
            here.execute("CREATE TABLE who (is_superuser text)")
            here.execute("GRANT INSERT ON who TO kine")
            here.execute(
                "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.who "
                "SELECT rolsuper FROM pg_roles WHERE rolname = current_user; RETURN NEW; END $$"
            )
            here.execute("CREATE TRIGGER tell BEFORE INSERT ON kine FOR EACH ROW EXECUTE FUNCTION tell()")
            here.execute("ALTER TABLE kine ENABLE ALWAYS TRIGGER tell")
            subscribe = "SELECT kine_failover_admin.subscribe(%s, %s)"
            here.execute(subscribe, [slot, conninfo(leader)])
            with pytest.raises(psycopg.errors.DuplicateObject):
                here.execute(subscribe, [slot, conninfo(leader)])
            there.execute("INSERT INTO kine (name) VALUES ('one')")
            assert until(here, "SELECT is_superuser FROM who") == ("false",)
            assert here.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (False,)
            here.execute("SELECT kine_failover_admin.unsubscribe()")
            assert here.execute("SELECT count(*) FROM pg_subscription").fetchone() == (0,)
    assert PASSWORD.split("'", maxsplit=1)[0] not in follower.log.read_text() + leader.log.read_text()


def until(session: psycopg.Connection[Any], question: str) -> tuple[Any, ...]:
    deadline = time.monotonic() + 60
    while True:
        row: tuple[Any, ...] | None = session.execute(question.encode()).fetchone()
        if row is not None:
            return row
        assert time.monotonic() < deadline, "nothing is applied"
        time.sleep(0.02)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user for peer authentication")
def test_the_supervisors_user_comes_in_over_the_socket(each_postgres: binaries.Postgres) -> None:
    with servers(each_postgres) as (server,):
        set_up(server)
        ask: list[str | Path] = [
            server.programs / "psql",
            "-X",
            "-At",
            "-d",
            server.conninfo(),
            "-c",
            "SELECT current_user",
        ]
        for user, good in (("nobody", True), ("daemon", False)):
            done = subprocess.run(ask, user=user, capture_output=True, text=True, check=False)
            assert (done.stdout.strip() == SUPERVISOR) is good, done.stderr
