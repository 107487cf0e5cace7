"""Where the boxes of a picture of a graph go: layer by layer, edges pointing down.

Sugiyama, Tagawa & Toda 1981: a box lies below all that it is made of, an edge through several
layers keeps a free lane in each, so that it crosses no box, and the order within a layer follows
that of the neighbours. Lanes from one box are shared by all edges that need them.
"""

from itertools import pairwise

import numpy as np

GAP, LANE, BETWEEN = 22, 10, 40  # between boxes, width of a lane, between layers, in pixels
PORT = 18  # between two edges that arrive at one box
SWEEPS = 24


class Place:
    """What a layer holds: a box, or a lane for edges that pass through.

    Attributes
    ----------
    x, y : float
        Of the centre, in pixels.
    width, height : float
    style : str
        Of the edges that come in.
    box
        None for a lane.
    above : list of (Place, float)
        Where edges come from in the layer above, and how far from the middle each one arrives.
    """

    def __init__(self, width, height, style, box=None):
        self.width, self.height, self.style, self.box = width, height, style, box
        self.x = self.y = 0.0
        self.above, self.below = [], []

    @property
    def top(self):
        return self.y - self.height / 2

    @property
    def bottom(self):
        return self.y + self.height / 2

    def arrivals(self):
        """Return where each edge comes from and how far from the middle it arrives."""
        if self.box is None or self.box.ordered:
            return self.above
        return [
            (upper, _port(self.box, k))
            for k, (upper, _) in enumerate(sorted(self.above, key=lambda edge: edge[0].x))
        ]


def place(boxes):
    """Find a place for every box.

    Parameters
    ----------
    boxes : list of tinymaml.drawing.svg.Box
        Each after all of its sources. Edges of two styles do not share a lane.

    Returns
    -------
    list of list of Place
        Layer by layer, from left to right.
    """
    layer = _layers(boxes)
    places = {box: Place(box.width, box.height, box.style, box) for box in boxes}
    layers = [[] for _ in range(max(layer.values()) + 1)]
    lanes = {}
    for box in boxes:
        layers[layer[box]].append(places[box])
        for k, source in enumerate(box.sources):
            last = places[source]
            for at in range(layer[source] + 1, layer[box]):
                lane = lanes.get((source, box.style, at))
                if lane is None:
                    lane = lanes[source, box.style, at] = Place(LANE, 0, box.style)
                    layers[at].append(lane)
                    _join(last, lane, 0)
                last = lane
            _join(last, places[box], _port(box, k) if box.ordered else 0)
    _order(layers)
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
            if p.box is None:
                p.height = height
        top += height + BETWEEN
    return layers


def _port(box, k):
    """Return how far from the middle of a box its k-th edge arrives."""
    n = len(box.sources)
    return (k - (n - 1) / 2) * min(PORT, box.width / n)


def _join(upper, lower, offset):
    lower.above.append((upper, offset))
    upper.below.append((lower, offset))


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


def _order(layers):
    """Order every layer by the middle of its neighbours, and keep what crossed least."""
    best = None
    _pack(layers)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for row in layers if down else layers[::-1]:
            row.sort(key=lambda p: _middle(p.above if down else p.below, down, p.x))
            _pack([row])
        crossings = sum(_crossings(row) for row in layers)
        if best is None or crossings < best[0]:
            best = crossings, [list(row) for row in layers]
    for row, ordered in zip(layers, best[1]):
        row[:] = ordered
    _pack(layers)


def _middle(neighbours, down, otherwise):
    """Return where the mean neighbour is, allowing for where an edge meets its box."""
    if not neighbours:
        return otherwise
    return sum(p.x + (-d if down else d) for p, d in neighbours) / len(neighbours)


def _pack(layers):
    for row in layers:
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
    """Move a layer's places towards their neighbours, in their order and without overlap.

    That is isotonic regression, by pooling neighbours that would overlap. Lanes weigh most, so
    that they run straight, and leaves least, so that they stand aside.
    """
    gaps = [(p.width + q.width) / 2 + GAP for p, q in pairwise(row)]
    shift = np.cumsum([0, *gaps])
    pools = []  # of places side by side: [where, weight, how many]
    for p, moved in zip(row, shift):
        pulls = [(q.x - d, q) for q, d in p.above] + [(q.x + d, q) for q, d in p.below]
        weights = [_pull(p, q) for _, q in pulls]
        total = sum(weights) or 0.01
        wanted = sum(w * x for w, (x, _) in zip(weights, pulls)) / total if pulls else p.x
        pools.append([wanted - moved, total, 1])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            x, weight, n = pools.pop()
            before = pools[-1]
            before[0] = (before[0] * before[1] + x * weight) / (before[1] + weight)
            before[1] += weight
            before[2] += n
    at = [x for x, _, n in pools for _ in range(n)]
    for p, x, moved in zip(row, at, shift):
        p.x = float(x + moved)


def _pull(p, q):
    if p.box is q.box is None:
        return 8
    return 0.1 if any(r.box is not None and not r.box.sources for r in (p, q)) else 1
