"""Text without secrets: known ones by value, others by what they look like, and nothing else is touched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failover.cli.redact import REMOVED, Redactor, password_of, without_password


@pytest.mark.parametrize(
    "text",
    [
        "password=hunter22", "PGPASSWORD=hunter22", '"password": "hunter22"', "passphrase: hunter22", "token=hunter22",
        "x-api-key: hunter22", "postgres://kine:hunter22@10.0.0.1/kine", "secret = 'hunter22 and more'",
        "-----BEGIN EC PRIVATE KEY-----\nhunter22\n-----END EC PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----\nhunter22",
    ],
)  # fmt: skip
def test_what_looks_like_a_secret_goes(text: str) -> None:
    assert "hunter22" not in Redactor([]).clean(f"before {text} after")


@pytest.mark.parametrize(
    "text",
    ["revision 12 of /registry/secrets", '"password_file": "/etc/pw"', "host=10.0.0.1 user=kine", '"password": null'],
)
def test_what_is_none_stays(text: str) -> None:
    assert Redactor([]).clean(text) == text


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=4), st.text(), st.text())
def test_a_known_secret_goes_wherever_it_stands(secret: str, before: str, after: str) -> None:
    cleaned = Redactor([secret]).clean(before + secret + after)
    assert secret not in cleaned or secret in REMOVED


@pytest.mark.parametrize(
    "conninfo",
    ["host=/run user=a password='p w'", "postgres://a:p%20w@h:1/d?sslmode=disable", "postgresql://a:p%20w@h/d"],
)
def test_connection_strings_lose_their_passwords_only(conninfo: str) -> None:
    assert "p w" in password_of(conninfo)
    shown = without_password(conninfo)
    assert "user=a" in shown
    assert "p w" not in shown
