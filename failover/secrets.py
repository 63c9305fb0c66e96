"""Secrets from files: root's own, or systemd's credentials."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg

if TYPE_CHECKING:
    from collections.abc import Callable

BYTES_MAX = 4096
OTHERS = 0o007


def read(file: Path) -> str:
    """Return the first line of a file; a relative path is one of systemd's credentials (`LoadCredential=`).

    Raises ValueError with what to do where it cannot be used.
    """
    if not file.is_absolute():
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if folder is None:
            raise ValueError(f"{file} is no absolute path, and systemd has given no credentials (LoadCredential=)")
        file = Path(folder) / file
    try:
        with file.open("rb") as opened:
            mode, raw = os.fstat(opened.fileno()).st_mode, opened.read(BYTES_MAX)
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from None
    if mode & OTHERS:
        raise ValueError(f"{file} is open to every user of this machine; chmod o= {file}")
    secret = raw.decode(errors="replace").splitlines()[0] if raw.strip() else ""
    if not secret:
        raise ValueError(f"{file} is empty")
    return secret


def with_password(told: Any, put: Callable[[str, str], str]) -> Any:
    """Return a section of the configuration with the content of its `password_file` put into `own` and `peer`."""
    if not isinstance(told, dict) or told.get("password_file") is None:
        return told
    secret = read(Path(str(told["password_file"])))
    try:
        return {
            **told,
            **{name: put(told[name], secret) for name in ("own", "peer") if isinstance(told.get(name), str)},
        }
    except psycopg.ProgrammingError:
        return told  # a connection string that cannot be read: its own validator says so


def put_into_url(url: str, secret: str) -> str:
    """Return postgres://user@host/... with the password in it."""
    parts = urlsplit(url)
    user, at, place = parts.netloc.rpartition("@")
    if not at:
        return url
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:{quote(secret, safe='')}@{place}"))
