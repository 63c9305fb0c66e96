"""Taking secrets out of text: those that are known by value, and whatever looks like one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

if TYPE_CHECKING:
    from collections.abc import Iterable

REMOVED = "[removed]"
SHORTEST = 4  # a shorter known secret would take ordinary words along
KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
URL = re.compile(r"(://[^\s:/@\"']*):[^\s@\"']+@")
NAMED = re.compile(
    r"(?i)((?:[\w-]*(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|private[_-]?key))[\"']?\s*[=:]\s*)"
    r"(\\?\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[^\s,;&\"'}\]]+)"
)
PLAIN = re.compile(r"(?i)^\W*(null|none|true|false|\d{1,2}|\*+|\[removed\]|scram-sha-256|md5)\W*$")
SECRET_NAME = re.compile(r"(?i)(pass|secret|token|key|credential)")


class Redactor:
    """Takes known secrets and their likes out of text."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = {one.strip() for one in secrets} | {unquote(one.strip()) for one in secrets}
        self._known = sorted((one for one in known if len(one) >= SHORTEST), key=len, reverse=True)

    def clean(self, text: str) -> str:
        """Return the text without secrets."""
        for one in self._known:
            text = text.replace(one, REMOVED)
        text = KEY.sub(REMOVED, text)
        text = URL.sub(rf"\1:{REMOVED}@", text)
        return NAMED.sub(lambda found: found[0] if PLAIN.match(found[2]) else f"{found[1]}{REMOVED}", text)


def password_of(conninfo: str) -> list[str]:
    """Return the password in a connection string or URL, in all its spellings."""
    found = []
    try:
        told = conninfo_to_dict(conninfo)
        found += [str(told[key]) for key in ("password", "sslpassword", "passfile") if told.get(key)]
    except psycopg.ProgrammingError:
        found.append(conninfo)  # it cannot be taken apart: all of it goes
    if "://" in conninfo:
        raw = urlsplit(conninfo).password
        found += [raw] if raw else []
    return found


def without_password(conninfo: str) -> str:
    """Return a connection string as it may be shown."""
    try:
        told = {key: value for key, value in conninfo_to_dict(conninfo).items() if "pass" not in key}
    except psycopg.ProgrammingError:
        return REMOVED
    return make_conninfo("", **{key: str(value) for key, value in told.items()})
