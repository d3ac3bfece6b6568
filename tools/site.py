"""Build the site into docs/_build/html; a warning of Sphinx or a broken link inside is an error.

    python tools/site.py [--explore MODEL ...] [--no-execute]

The pages with code are executed, which takes minutes, and their results are kept until the code
changes. With --explore, `caloforge explore` writes the page in which one moves energy, impact and
angle for these generators, and the site gets it under explore/.
"""

import argparse
import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
BUILD = DOCS / "_build"
HTML, EXTRA = BUILD / "html", BUILD / "extra"


class Page(HTMLParser):
    """The targets of a page's links and pictures, and the places at which it can be entered."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = {"", "top"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called for every tag."""
        for key, value in attrs:
            if key in ("id", "name") and value:
                self.anchors.add(value)
            if (tag, key) in (("a", "href"), ("img", "src"), ("iframe", "src")) and value:
                self.links.append(value)


def broken_links(folder: Path) -> list[str]:
    """One sentence for each link from a page of `folder` to a file or place that is not there."""
    pages = {path: Page(path) for path in folder.rglob("*.html") if "explore" not in path.parts}
    wrong = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            where = path.relative_to(folder)
            if not target.exists():
                wrong.append(f"{where} links to {link}, which is not there.")
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                wrong.append(f"{where} links to {link}; the page has no such place.")
    return wrong


def write_explorer(generators: list[str]) -> None:
    """The page of `caloforge explore` under EXTRA; nothing where no generators are given."""
    shutil.rmtree(EXTRA, ignore_errors=True)
    if not generators:
        return
    EXTRA.mkdir(parents=True)
    out = EXTRA / "explore"
    command = [sys.executable, "-m", "caloforge", "explore", *generators, "--out", str(out)]
    subprocess.run(command, check=True, cwd=ROOT)


def main() -> None:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--explore", nargs="+", default=[], metavar="MODEL")
    parser.add_argument("--no-execute", action="store_true", help="leave out the results of code")
    asked = parser.parse_args()
    write_explorer(asked.explore)
    shutil.rmtree(HTML, ignore_errors=True)  # no page stays that is no more
    # The gallery links to the explorer where there is one: Sphinx must not keep what it read when
    # there was another answer.
    (BUILD / "doctrees" / "gallery.doctree").unlink(missing_ok=True)
    settings = {"CALOFORGE_DOCS_EXECUTE": "off"} if asked.no_execute else {}
    sphinx = ["-m", "sphinx", "-W", "--keep-going", "-q", "-d", BUILD / "doctrees", DOCS, HTML]
    done = subprocess.run([sys.executable, *map(str, sphinx)], env={**os.environ, **settings})
    wrong = broken_links(HTML) if done.returncode == 0 else []
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    if done.returncode or wrong:
        sys.exit(1)
    print(f"The site is in {HTML.relative_to(ROOT)}: open index.html.")


if __name__ == "__main__":
    main()
