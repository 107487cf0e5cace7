"""Settings of the documentation: ``sphinx-build -W --keep-going -n docs build/docs``."""

import importlib.util
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]  # the package as it stands here, and pages.py

import tinymaml  # noqa: E402

project = "tinymaml"
release = version = tinymaml.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "numpydoc",
    "sphinx_design",
    "pages",
]
exclude_patterns = ["results/*/**"]  # the runs' own files
suppress_warnings = ["myst.header"]  # solutions: an exercise under a title

# Text
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3
smartquotes_action = "q"  # not dashes: an option begins with two hyphens
default_role = "py:obj"
nitpick_ignore_regex = [("py:obj", ".*")]  # single backticks may also hold a parameter's name
nb_execution_mode = "off"  # the outputs that were committed are shown
nb_code_prompt_show, nb_code_prompt_hide = "Show the code", "Hide the code"
nb_ipywidgets_js = {}  # they would come from the network

# Copied is what is typed: no prompts, no outputs.
copybutton_selector = ":not(.output) > div.highlight > pre"
copybutton_prompt_text, copybutton_prompt_is_regexp = r">>> |\.\.\. ", True

# Docstrings
autodoc_member_order = "bysource"
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# Look. MathJax is one file, from a package, so that nothing is fetched when a page is read.
mathjax = Path(*importlib.util.find_spec("sphinx-mathjax-offline").submodule_search_locations)
mathjax_path = "tex-svg-full.js"
mathjax_options = {"defer": "defer"}
html_static_path = ["static", str(mathjax / "static/mathjax" / mathjax_path)]
html_css_files = ["tinymaml.css"]
html_theme = "pydata_sphinx_theme"
html_title = "tinymaml"
html_copy_source = html_use_index = html_domain_indices = False
html_show_sourcelink = html_show_copyright = html_show_sphinx = False
html_theme_options = {
    "logo": {"text": "tinymaml"},
    "show_prev_next": False,
    "header_links_before_dropdown": 8,
    "navbar_end": ["theme-switcher"],
    "navbar_persistent": ["search-button"],
    "footer_start": [],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {"index": [], "howto": [], "teachers": [], "design": []}
html_context = {"default_mode": "auto"}
