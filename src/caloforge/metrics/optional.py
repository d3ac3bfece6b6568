"""Fields that a results.json may lack, because versions before them did not write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Metadata of a field with a default that JSON leaves out where it has that default.
OPTIONAL: Mapping[str, Any] = {"optional": True}
