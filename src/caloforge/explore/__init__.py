"""The explorer: a page in which one moves energy, impact and angle and watches showers.

`describe` says what the page has to know and `reference` packs Geant4's showers for it; `server`
makes showers for the page on this machine, `site` writes it as a static site in which the browser
makes them, `notebook` shows it below a cell, and `page` holds the files that `make web` builds
from the sources in the folder web.

`caloforge.explore` is this room and, when it is called, the function `explore` of it.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from caloforge.explore.describe import Explored, load_explored
from caloforge.explore.notebook import NotebookExplorer, explore
from caloforge.explore.server import ExplorerServer
from caloforge.explore.site import find_runtime, write_site

__all__ = [
    "Explored",
    "ExplorerServer",
    "NotebookExplorer",
    "explore",
    "find_runtime",
    "load_explored",
    "write_site",
]


class _Room(ModuleType):
    """A room that can be called, as Python's data model allows for modules: the package's
    attribute `explore` is the room once anything in it was imported.
    """

    def __call__(self, *args: Any, **settings: Any) -> NotebookExplorer:
        """See `caloforge.explore.notebook.explore`."""
        return explore(*args, **settings)


sys.modules[__name__].__class__ = _Room
