"""How the picture of a graph looks: boxes, arrows, legend and caption as SVG."""

import textwrap
from dataclasses import dataclass, field
from itertools import pairwise
from unicodedata import east_asian_width

from . import layered

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
ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"})
CHARACTER, LINE, MARGIN = 7.3, 16, 18  # pixels, at a font size of 12
NARROWEST = 476


@dataclass(eq=False)
class Box:
    """One box.

    Attributes
    ----------
    kind : str
        A key of ``LOOKS``.
    name : str
        In bold, above the ``lines``; may be empty.
    lines : list of str
    full : str
        All there is to say, for who points at the box.
    output : bool
    count : int
        Of the tensors that it stands for; it has a shadow if there are several.
    ordered : bool
        Whether its arguments have an order, from left to right.
    sources : list of Box
        Those of its arguments.
    """

    kind: str
    name: str
    lines: list
    full: str
    output: bool = False
    count: int = 1
    ordered: bool = False
    sources: list = field(default_factory=list)

    @property
    def style(self):
        """The kind of the edges that go in."""
        return BACKWARD if self.kind == BACKWARD else FORWARD

    @property
    def width(self):
        return max([_width(line) for line in [self.name, *self.lines]]) + 20

    @property
    def height(self):
        return (len(self.lines) + bool(self.name)) * LINE + 12


def render(boxes, caption):
    """Return the SVG of boxes, each of which comes after its sources."""
    rows = layered.place(boxes)
    places = [p for row in rows for p in row]
    graph_width = max(p.x + p.width / 2 for p in places)
    width = max(graph_width + 2 * MARGIN, NARROWEST)
    legend, height = _legend(boxes, caption, max(p.bottom for p in places) + 2 * MARGIN, width)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" font-size="12" '
            'font-family="DejaVu Sans Mono, Menlo, Consolas, monospace">',
            f"<title>{escape(caption)}</title>",
            # a ground of its own, so that it can be read on a dark page
            f'<rect x="0.5" y="0.5" width="{width - 1:.0f}" height="{height - 1:.0f}" rx="8" '
            'fill="#ffffff" stroke="#d0d0d0"/>',
            f'<g transform="translate({(width - graph_width) / 2:.1f},{MARGIN})">',
            *_edges(rows),
            *[_box(p) for p in places if p.box is not None],
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
            for upper, d in p.arrivals():
                x, y = p.x + d, p.bottom if p.box is None else p.top
                lines[p.style] += (
                    f"M{upper.x:.1f} {upper.bottom:.1f}V{start:.1f}"
                    f"C{upper.x:.1f} {half:.1f} {x:.1f} {half:.1f} {x:.1f} {end:.1f}V{y:.1f}"
                )
                if p.box is not None:
                    heads[p.style] += f"M{x:.1f} {y:.1f}l-3.5 -8h7z"
    for style, path in lines.items():
        if path:
            _, colour, dashes, *_ = LOOKS[style]
            yield (
                f'<path fill="none" stroke="{colour}" stroke-width="1.3" '
                f'stroke-dasharray="{dashes}" d="{path}"/>'
            )
            yield f'<path fill="{colour}" d="{heads[style]}"/>'


def _box(place):
    box, x, y = place.box, place.x - place.width / 2, place.top
    shadow = _rect(x + 5, y + 5, place.width, place.height, box.kind) if box.count > 1 else ""
    parts = [shadow, _rect(x, y, place.width, place.height, box.kind, box.output)]
    y += 6 - LINE / 4
    if box.name:
        y += LINE
        parts.append(_text(place.x, y, box.name, 'text-anchor="middle" font-weight="bold"'))
    for line in box.lines:
        y += LINE
        parts.append(_text(place.x, y, line, 'text-anchor="middle"'))
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


def escape(text):
    """Escape text for XML, which has no control characters.

    Examples
    --------
    >>> escape("<b> & more")
    '&lt;b&gt; &amp; more'
    """
    return "".join(c if c.isprintable() else "\ufffd" for c in text).translate(ESCAPES)
