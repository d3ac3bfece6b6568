"""Settings of the site; `make docs` builds it."""

import os
import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE / "_ext"), str(ROOT / "src")]
# The pages call the program as a reader would: it is that of the Python which builds the site.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ["PYTHONPATH"] = str(ROOT / "src")
os.environ["COLUMNS"] = "100"
# Kernels ask commands for colours and progress bars, which a page cannot show.
os.environ["IPYTHONDIR"] = str(HERE / "_build" / "ipython")
STARTUP = HERE / "_build" / "ipython" / "profile_default" / "startup"
STARTUP.mkdir(parents=True, exist_ok=True)
(STARTUP / "plain.py").write_text(
    'import os\n\nos.environ.pop("FORCE_COLOR", None)\nos.environ["TERM"] = "dumb"\n',
    encoding="utf-8",
)

from caloforge import __version__  # noqa: E402

# The notebooks live beside the C++ examples, where people look for them; Sphinx wants them here.
GENERATED = HERE / "generated"
shutil.rmtree(GENERATED, ignore_errors=True)
GENERATED.mkdir()
for page in (ROOT / "examples").glob("*.md"):
    # Their links lead to files of the repository; on the site docs is the folder above them.
    text = page.read_text(encoding="utf-8").replace("](../docs/", "](../")
    (GENERATED / page.name).write_text(text, encoding="utf-8")


def without_links(text: str) -> str:
    """Markdown whose links to files of the repository are plain text: the site lacks the files."""
    return re.sub(r"\[([^\]]+)\]\((?!https?:|#)[^)]+\)", r"\1", text)


for name, page_name in (("CONTRIBUTING.md", "extending.md"), ("CHANGELOG.md", "changelog.md")):
    text = (ROOT / name).read_text(encoding="utf-8")
    (GENERATED / page_name).write_text(without_links(text), encoding="utf-8")

project = "CaloForge"
author = "CaloForge developers"
copyright = "CaloForge developers"
version = release = __version__
extensions = [
    "myst_nb",
    "sphinx_design",
    "sphinx_copybutton",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "reference",
]
exclude_patterns = ["_build", "_ext"]
source_suffix = {".md": "myst-nb"}
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

nb_execution_mode = os.environ.get("CALOFORGE_DOCS_EXECUTE", "cache")
# Code that was not executed has no language of its kernel.
suppress_warnings = ["mystnb.lexer", "myst-nb.lexer"] if nb_execution_mode == "off" else []
nb_render_text_lexer = "none"
nb_execution_cache_path = str(HERE / "_build" / "executed")
nb_execution_timeout = 1800
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = False
napoleon_use_rtype = False

highlight_language = "none"
default_role = "code"  # a name in single backticks of a docstring
html_theme = "furo"
html_title = "CaloForge"
html_favicon = str(HERE.parent / "web" / "src" / "icon.svg")
html_extra_path = [str(path) for path in [HERE / "_build" / "extra"] if path.exists()]
copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True
