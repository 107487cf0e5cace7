"""A page of a few kinds of blocks, written as Markdown and as one self-contained HTML file.

Text is data: whatever characters it holds, its reader sees those and nothing else.
A line of text is a str, a :class:`Link`, or a list of these and of ``BREAK``.
"""

import base64
import html
import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

BREAK = object()

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --page: #fff; --line: #c8c8c8; --shade: #f2f2f2;
  --link: #00528c }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --page: #161616; --line: #484848; --shade: #242424; --link: #8cc4f0 } }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; overflow-wrap: anywhere;
  font: 1rem/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page) }
h1, h2, h3 { line-height: 1.2; margin: 2rem 0 .5rem }
p, ul { max-width: 45rem }
a { color: var(--link) }
.wide, pre { overflow-x: auto; margin: 1rem 0 }
pre { background: var(--shade); padding: .75rem }
table { border-collapse: collapse; font-size: .9rem; overflow-wrap: normal;
  font-variant-numeric: tabular-nums }
caption { text-align: left; padding: .25rem 0; font-weight: bold }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .6rem; text-align: left;
  vertical-align: top; min-width: 6.8rem }
td:has(br) { min-width: 15rem }
thead th { background: var(--shade) }
tbody th { font-weight: normal; max-width: 11rem; position: sticky; left: 0;
  background: var(--page) }
figure { margin: 1rem 0 }
img { max-width: 100%; height: auto; background: #fff }
"""


class Link(NamedTuple):
    """A link to the heading with this id."""

    text: str
    id: str


class Heading(NamedTuple):
    """A heading; ``id``, of small letters, digits and hyphens, makes it a place to link to."""

    level: int
    text: str
    id: str = ""


class Paragraph(NamedTuple):
    line: object


class Bullets(NamedTuple):
    lines: list


class Commands(NamedTuple):
    """Commands for a shell, one a line."""

    lines: list


class Table(NamedTuple):
    """A table whose first column names its rows."""

    caption: str
    head: list
    rows: list


class Image(NamedTuple):
    """A PNG file: linked to from Markdown, embedded in HTML."""

    path: Path
    data: bytes
    alt: str


def markdown(blocks, folder):
    r"""Return the page as Markdown of GitHub's kind, to be written into ``folder``.

    Examples
    --------
    >>> table = Table("A table", ["method", "1|2"], [["*MAML*", ["0.67", BREAK, "<b>"]]])
    >>> print(markdown([Heading(1, "Title"), table], "."))
    # Title
    <BLANKLINE>
    **A table**
    <BLANKLINE>
    | method | 1\|2 |
    |---|---|
    | \*MAML\* | 0.67<br>\<b\> |
    <BLANKLINE>
    """
    return "\n\n".join(_markdown_block(block, folder) for block in blocks) + "\n"


def _markdown_block(block, folder):
    match block:
        case Heading(level, text, id):
            anchor = f'<a id="{id}"></a>\n\n' if id else ""
            return f"{anchor}{'#' * level} {_markdown_text(text)}"
        case Paragraph(line):
            return _markdown_start(line)
        case Bullets(lines):
            return "\n".join(f"* {_markdown_start(line)}" for line in lines)
        case Commands(lines):
            return "\n".join(["```sh", *map(_printable, lines), "```"])
        case Table(caption, head, rows):
            lines = [f"| {' | '.join(map(_markdown_line, row))} |" for row in (head, *rows)]
            lines.insert(1, "|" + "---|" * len(head))
            return "\n".join([f"**{_markdown_text(caption)}**", "", *lines])
        case Image(path, _, alt):
            link = os.path.relpath(*map(os.path.realpath, (path, folder))).replace(os.sep, "/")
            return f"![{_markdown_text(alt)}]({quote(os.fsencode(link))})"


def _markdown_line(line):
    return _line(line, _markdown_text, "[{text}](#{id})", "<br>")


def _markdown_start(line):
    """A line that begins neither a list nor a rule."""
    return re.sub(r"^(\d*)(?=[-+=.)])", r"\1\\", _markdown_line(line))


def _markdown_text(text):
    # the last two and @ are what GitHub would make links of
    return re.sub(r"[\\`*_\[\]<>|~&$#@]|:(?=//)|(?<=www)\.", r"\\\g<0>", _printable(text))


def to_html(title, blocks):
    """Return the page as HTML: one file without scripts, which loads nothing.

    Examples
    --------
    >>> page = to_html("Title", [Paragraph(["See ", Link("a < b", "run-1")])])
    >>> print(page[page.index("<main>") :])
    <main>
    <p>See <a href="#run-1">a &lt; b</a></p>
    </main>
    </body>
    </html>
    <BLANKLINE>
    """
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">",
            f"<title>{_html_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>",
            *map(_html_block, blocks),
            "</main>\n</body>\n</html>\n",
        ]
    )


def _html_block(block):
    match block:
        case Heading(level, text, id):
            place = f' id="{id}"' if id else ""
            return f"<h{level}{place}>{_html_text(text)}</h{level}>"
        case Paragraph(line):
            return f"<p>{_html_line(line)}</p>"
        case Bullets(lines):
            return "\n".join(["<ul>", *[f"<li>{_html_line(line)}</li>" for line in lines], "</ul>"])
        case Commands(lines):
            return f"<pre><code>{chr(10).join(map(_html_text, lines))}</code></pre>"
        case Table(caption, head, rows):
            titles = "".join(f'<th scope="col">{_html_line(cell)}</th>' for cell in head)
            body = [
                f'<tr><th scope="row">{_html_line(first)}</th>'
                + "".join(f"<td>{_html_line(cell)}</td>" for cell in cells)
                + "</tr>"
                for first, *cells in rows
            ]
            name = _html_text(caption)
            return "\n".join(
                [
                    # to be scrolled by keyboard too
                    f'<div class="wide" role="region" aria-label="{name}" tabindex="0">',
                    f"<table>\n<caption>{name}</caption>",
                    f"<thead>\n<tr>{titles}</tr>\n</thead>\n<tbody>",
                    *body,
                    "</tbody>\n</table>\n</div>",
                ]
            )
        case Image(_, data, alt):
            source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
            return f'<figure><img src="{source}" alt="{_html_text(alt)}"></figure>'


def _html_line(line):
    # a number stays on one line with its interval
    text = _line(line, _html_text, '<a href="#{id}">{text}</a>', "<br>")
    return re.sub(r"(?<=\d) ± (?=\d)", "&nbsp;±&nbsp;", text)


def _html_text(text):
    return html.escape(_printable(text))


def _line(line, escape, link, line_break):
    def one(span):
        if span is BREAK:
            return line_break
        if isinstance(span, Link):
            return link.format(text=escape(span.text), id=span.id)
        before, after = (" " * bool(re.search(end, span)) for end in ("^ .", ". $"))
        return before + escape(span) + after

    return "".join(map(one, line if isinstance(line, list) else [line]))


def _printable(text):
    """Neither line breaks nor control characters, nor what turns the direction of reading."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
