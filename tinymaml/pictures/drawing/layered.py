"""Where the boxes of a picture of a graph go: layer by layer, edges pointing down.

Sugiyama, Tagawa & Toda 1981: a box lies below all that it is made of, an edge through several
layers keeps a free lane in each, so that it crosses no box, and the order within a layer follows
that of the neighbours. Lanes from one box are shared by all edges that need them.
"""

from itertools import pairwise
from operator import itemgetter

import numpy as np

GAP, LANE, BETWEEN = 22, 10, 40  # between boxes, width of a lane, between layers, in pixels
PORT = 18  # between two edges that arrive at one box
SWEEPS = 24


class Place:
    """A part of a layer: a lane for edges that pass through, or a box, which is a subclass.

    Attributes
    ----------
    x, y : float
        Of the centre, in pixels.
    width, height : float
    style : str
        Of the edges that come in.
    above, below : list of (Place, float)
        The ends of its edges in the next layers, and how far left of that end's centre this place
        should be for the edge to be straight.
    """

    sources = None  # of a lane; a box has a list of boxes

    def __init__(self, style, width=LANE, height=0):
        self.style, self.width, self.height = style, width, height
        self.x = self.y = 0.0
        self.above, self.below = [], []

    @property
    def top(self):
        return self.y - self.height / 2

    @property
    def bottom(self):
        return self.y + self.height / 2


def place(boxes: list) -> list[list[Place]]:
    """Find a place for every box.

    Parameters
    ----------
    boxes : list of tinymaml.pictures.drawing.svg.Box
        Each after all of its sources. Edges of two styles do not share a lane.

    Returns
    -------
    list of list of Place
        Layer by layer, from the top.
    """
    layer = _layers(boxes)
    layers = [[] for _ in range(max(layer.values()) + 1)]
    lanes = {}
    for box in boxes:
        layers[layer[box]].append(box)
        for k, last in enumerate(box.sources):
            source = last
            for at in range(layer[source] + 1, layer[box]):
                key = source, box.style, at
                if key not in lanes:
                    lanes[key] = Place(box.style)
                    layers[at].append(lanes[key])
                    _join(last, lanes[key], 0)
                last = lanes[key]
            _join(last, box, port(box, k) if box.ordered else 0)
    _, layers = min(_orders(layers), key=itemgetter(0))
    for row in layers:
        _pack(row)
    for sweep in range(SWEEPS):
        for row in layers if sweep % 2 else layers[::-1]:
            _straighten(row)
    left = min(p.x - p.width / 2 for row in layers for p in row)
    top = 0
    for row in layers:
        height = max(p.height for p in row)
        for p in row:
            p.x -= left
            p.y = top + height / 2
            if p.sources is None:
                p.height = height
        top += height + BETWEEN
    return layers


def port(box: Place, k: int) -> float:
    """Return how far right of the middle of a box its k-th edge arrives."""
    n = len(box.sources)
    return (k - (n - 1) / 2) * min(PORT, box.width / n)


def _join(upper, lower, offset):
    lower.above.append((upper, offset))
    upper.below.append((lower, -offset))


def _layers(boxes):
    """Return the layer of every box: one below its lowest source; a source just above its use."""
    layer, highest_use = {}, {}
    for box in boxes:
        layer[box] = max([layer[s] + 1 for s in box.sources], default=0)
    for box in boxes:
        for s in box.sources:
            highest_use[s] = min(layer[box], highest_use.get(s, layer[box]))
    for box, use in highest_use.items():
        if not box.sources:
            layer[box] = use - 1
    return layer


def _orders(layers):
    """Yield orders by the middle of the neighbours above or below, and how many edges cross."""
    for row in layers:
        _pack(row)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for row in layers if down else layers[::-1]:
            row.sort(key=lambda p: _middle(p, p.above if down else p.below)[0])
            _pack(row)
        yield sum(map(_crossings, layers)), [list(row) for row in layers]


def _middle(p, neighbours):
    """Return where a place would be for its edges to run straight, and how strongly it wants that.

    Lanes want it most, so that they are straight, and boxes without a source least, so that they
    stand aside.
    """
    pulls = [_pull(p, q) for q, _ in neighbours]
    if not pulls:
        return p.x, 0.01
    total = sum(pulls)
    return sum(w * (q.x - d) for w, (q, d) in zip(pulls, neighbours)) / total, total


def _pull(p, q):
    if p.sources is q.sources is None:
        return 8
    return 0.1 if [] in (p.sources, q.sources) else 1


def _pack(row):
    x = -sum(p.width + GAP for p in row) / 2
    for p in row:
        p.x = x + p.width / 2
        x += p.width + GAP


def _crossings(row):
    """Count the pairs of edges into a layer that cross."""
    ends = [(upper.x, lower.x + d) for lower in row for upper, d in lower.above]
    a, b = np.array(ends).reshape(-1, 2).T
    return int(((a[:, None] < a) & (b[:, None] > b)).sum())


def _straighten(row):
    """Move a layer's places towards the middle of their neighbours, in order, without overlap.

    That is isotonic regression, by pooling neighbours that would overlap.
    """
    shift = np.cumsum([0, *[(p.width + q.width) / 2 + GAP for p, q in pairwise(row)]])
    pools = []  # of places side by side: where, weight, how many
    for p, moved in zip(row, shift):
        x, weight = _middle(p, p.above + p.below)
        x, n = x - moved, 1
        while pools and pools[-1][0] > x:
            before, its_weight, its_n = pools.pop()
            total = weight + its_weight
            x, weight, n = (x * weight + before * its_weight) / total, total, n + its_n
        pools.append((x, weight, n))
    at = [x for x, _, n in pools for _ in range(n)]
    for p, x, moved in zip(row, at, shift):
        p.x = float(x + moved)
