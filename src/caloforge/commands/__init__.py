"""The commands: each reads its arguments, calls one function of the package, and writes."""

from __future__ import annotations

from rich.console import Console


def console() -> Console:
    """Where commands print."""
    return Console()
