"""Errors that the command and the supervisor share."""

from __future__ import annotations


class ConfigError(Exception):
    """The configuration cannot be used; each line names file, key, value and remedy."""
