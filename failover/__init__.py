"""Keeps one leader over two Postgres + Kine nodes."""

from __future__ import annotations

__version__ = "0.1.0"
DEFAULT_FILE = "/etc/kine-failover/config.toml"
FILE_VARIABLE = "KINE_FAILOVER_CONFIG"  # names another file
