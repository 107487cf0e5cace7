"""How the picture of a graph looks: boxes, arrows, legend and caption as SVG."""

import textwrap
from html import escape as to_html
from itertools import pairwise
from unicodedata import east_asian_width

from .layered import Place, place, port

LEAF, CONSTANT, FORWARD, BACKWARD, BOTH = "leaf", "constant", "forward", "backward", "both"
#: Of each kind: fill, stroke (Okabe & Ito's blue and vermillion), dashes, radius, meaning.
LOOKS = {
    LEAF: ("#dcebf7", "#0072B2", "none", 14, "leaf, requires a gradient"),
    CONSTANT: ("#e9e9e9", "#8a8a8a", "none", 0, "constant"),
    FORWARD: ("#ffffff", "#333333", "none", 5, "forward"),
    BACKWARD: ("#fdebdf", "#D55E00", "6 3", 5, "recorded while differentiating"),
    BOTH: ("#f7f2ee", "#7a4b2c", "2 3", 5, "both"),
}
INK, PALE = "#1a1a1a", "#555555"
CHARACTER, LINE, MARGIN = 7.3, 16, 18  # pixels, at a font size of 12
NARROWEST = 476


class Box(Place):
    """One box.

    Parameters
    ----------
    kind : str
        A key of ``LOOKS``.
    name : str
        In bold, above the ``lines``; may be empty.
    lines : list of str
    full : str
        Everything about it, for a reader who points at the box.
    output : bool
    count : int
        Of the tensors that it stands for; a box of several has a shadow.
    ordered : bool
        Whether its arguments have an order, from left to right.

    Attributes
    ----------
    sources : list of Box
        Those of its arguments.
    """

    def __init__(self, kind, name, lines, full, output, count=1, ordered=False):
        width = max(map(_width, [name, *lines])) + 20
        height = (len(lines) + bool(name)) * LINE + 12
        super().__init__(BACKWARD if kind == BACKWARD else FORWARD, width, height)
        self.kind, self.name, self.lines, self.full = kind, name, lines, full
        self.output, self.count, self.ordered = output, count, ordered
        self.sources = []


def render(boxes: list[Box], caption: str) -> str:
    """Return the SVG of boxes, each of which comes after its sources."""
    rows = place(boxes)
    graph_width = max(p.x + p.width / 2 for row in rows for p in row)
    width = max(graph_width + 2 * MARGIN, NARROWEST)
    legend, height = _legend(boxes, caption, max(b.bottom for b in boxes) + 2 * MARGIN, width)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" font-size="12" '
            'font-family="DejaVu Sans Mono, Menlo, Consolas, monospace">',
            f"<title>{escape(caption)}</title>",
            # a ground of its own, so that it can be read on a dark page
            f'<rect x="0.5" y="0.5" width="{width - 1:.0f}" height="{height - 1:.0f}" rx="8" '
            'fill="#ffffff" stroke="#d0d0d0"/>',
            '<g text-anchor="middle" '
            f'transform="translate({(width - graph_width) / 2:.1f},{MARGIN})">',
            *_edges(rows),
            *map(_box, boxes),
            "</g>",
            *legend,
            "</svg>",
        ]
    )


def _edges(rows):
    lines, heads = {FORWARD: "", BACKWARD: ""}, {FORWARD: "", BACKWARD: ""}
    for above, row in pairwise(rows):
        start, end = max(p.bottom for p in above), min(p.top for p in row)
        half = (start + end) / 2
        for p in row:
            for upper, x in _arrivals(p):
                y = p.bottom if p.sources is None else p.top
                lines[p.style] += (
                    f"M{upper.x:.1f} {upper.bottom:.1f}V{start:.1f}"
                    f"C{upper.x:.1f} {half:.1f} {x:.1f} {half:.1f} {x:.1f} {end:.1f}V{y:.1f}"
                )
                if p.sources is not None:
                    heads[p.style] += f"M{x:.1f} {y:.1f}l-3.5 -8h7z"
    for style, path in lines.items():
        _, colour, dashes, *_ = LOOKS[style]
        line = f'fill="none" stroke="{colour}" stroke-width="1.3" stroke-dasharray="{dashes}"'
        yield f'<path {line} d="{path}"/>\n<path fill="{colour}" d="{heads[style]}"/>'


def _arrivals(p):
    """Yield where each edge to a place comes from, and the x at which it arrives."""
    if p.sources is None or p.ordered:
        yield from ((upper, p.x + d) for upper, d in p.above)
    else:
        uppers = sorted((upper for upper, _ in p.above), key=lambda upper: upper.x)
        yield from ((upper, p.x + port(p, k)) for k, upper in enumerate(uppers))


def _box(box):
    x, y = box.x - box.width / 2, box.top
    shadow = _rect(x + 5, y + 5, box.width, box.height, box.kind) if box.count > 1 else ""
    parts = [shadow, _rect(x, y, box.width, box.height, box.kind, box.output)]
    y += 6 - LINE / 4
    for line, style in [(box.name, 'font-weight="bold"'), *[(line, "") for line in box.lines]]:
        if line:
            y += LINE
            parts.append(_text(box.x, y, line, style))
    return f"<g><title>{escape(box.full)}</title>{''.join(parts)}</g>"


def _legend(boxes, caption, y, width):
    """Return the SVG of legend and caption below ``y``, and where they end."""
    kinds = {box.kind for box in boxes}
    entries = [(kind, look[-1], False) for kind, look in LOOKS.items() if kind in kinds]
    entries.append((next(box.kind for box in boxes if box.output), "output", True))
    parts, x = [], MARGIN
    for kind, meaning, thick in entries:
        needed = 29 + _width(meaning)
        if x > MARGIN and x + needed > width - MARGIN:
            x, y = MARGIN, y + 20
        parts += [_rect(x, y, 22, 13, kind, thick), _text(x + 29, y + 11, meaning)]
        x += needed + 18
    y += 20
    for line in textwrap.wrap(caption, int((width - 2 * MARGIN) / CHARACTER)):
        y += LINE
        parts.append(_text(MARGIN, y, line, colour=PALE))
    return parts, y + MARGIN


def _rect(x, y, width, height, kind, thick=False):
    fill, stroke, dashes, radius, _ = LOOKS[kind]
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'rx="{min(radius, height / 2)}" fill="{fill}" stroke="{stroke}" '
        f'stroke-width="{3.5 if thick else 1.4}" stroke-dasharray="{dashes}"/>'
    )


def _text(x, y, text, style="", colour=INK):
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" {style}>{escape(text)}</text>'


def _width(text):
    return sum(2 if east_asian_width(c) in "WF" else 1 for c in text) * CHARACTER


def escape(text: str) -> str:
    """Escape text for XML, which has no control characters.

    Examples
    --------
    >>> escape("<b> & more")
    '&lt;b&gt; &amp; more'
    """
    return to_html("".join(c if c.isprintable() else "\ufffd" for c in text))
