"""Keeps one leader over two Postgres + Kine nodes."""

from __future__ import annotations

__version__ = "0.1.0"
