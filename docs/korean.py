"""The pages in Korean: ``sphinx-build -W --keep-going -n -D language=ko docs build/docs/ko``.

They are those of which ``locale/ko`` has a catalogue. The site in English, in ``build/docs``, is
built before them: what they lead to and is not among them stands there.
"""

import re
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref

LOCALE = Path(__file__).resolve().parent / "locale" / "ko"
CATALOGUES = LOCALE / "LC_MESSAGES"
PAGES = [
    path.relative_to(CATALOGUES).with_suffix("").as_posix()
    for path in sorted(CATALOGUES.rglob("*.po"))
    if path.stem != "sphinx"  # the theme's words
]
RUN_IT = re.compile(r"\*\*Run it\*\* on (.+?\)), or on (.+?\)) with (`.+?`) in a first cell\.")


def setup(app):
    """Take part in the build."""
    app.connect("config-inited", _settings)
    app.connect("builder-inited", _messages)
    app.connect("source-read", _run_it, priority=600)  # after pages.py
    return {"parallel_read_safe": True}


def _settings(app, config):
    config.html_context["in_korean"] = ["index", *PAGES]
    if config.language != "ko":
        return
    config.include_patterns = ["index.md", *(f"{page}.*" for page in PAGES)]
    in_english = str(Path(app.outdir).parent / "objects.inv")
    config.intersphinx_mapping = {"english": ("..", in_english)}
    config.nb_code_prompt_show, config.nb_code_prompt_hide = "코드 보기", "코드 숨기기"
    config.html_theme_options["search_bar_text"] = "문서 검색"
    config.html_sidebars = {"**": []}  # three pages fit into the header
    app.connect("source-read", _read, priority=400)  # before pages.py
    app.connect("doctree-read", _to_english)


def _messages(app):
    """Take from these pages alone what is to be translated: ``-b gettext``."""
    if app.builder.name == "gettext":
        app.config.root_doc = PAGES[0]
        app.config.include_patterns = [f"{page}.*" for page in PAGES]


def _read(_app, docname, source):
    """Start with a page that names the others; say what is HTML, which catalogues do not hold."""
    source[0] = source[0].replace("<summary>Hint</summary>", "<summary>힌트</summary>")
    if docname == "index":
        source[0] = (LOCALE / "index.md").read_text(encoding="utf-8")


def _run_it(app, _docname, source):
    """Translate the line of ``pages.online``: it has an address, which no catalogue can know."""
    if app.builder.name == "gettext":
        source[0] = RUN_IT.sub("", source[0])
    elif app.config.language == "ko":
        source[0] = RUN_IT.sub(r"**실행하기** \1 또는 \2(첫 셀에 \3를 넣으세요).", source[0])


def _to_english(app, doctree):
    """Lead to the English page where there is none in Korean."""
    for link in list(doctree.findall(pending_xref)):
        page, anchor = link["reftarget"], link.get("reftargetid")
        if link["refdomain"] == "doc" and page not in app.env.found_docs:
            there = app.builder.get_relative_uri(app.env.docname, f"../{page}")
            there += f"#{anchor}" if anchor else ""
            link.replace_self(nodes.reference("", "", *link.children, refuri=there))
