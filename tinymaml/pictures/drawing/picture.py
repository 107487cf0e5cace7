"""The picture of a graph, as SVG made here: nothing to install, and text that stays text."""

import base64
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import UserError
from .graph import Graph, count_of
from .svg import CONSTANT, LEAF, escape, render

MOST_BOXES = 500  # more could not be read


@dataclass(frozen=True)
class Drawing:
    """A picture of a computation graph; a notebook shows it.

    Attributes
    ----------
    caption : str
        What it shows, and how many operations are folded.
    svg : str
        The picture, a document of its own.
    """

    caption: str
    svg: str = field(repr=False)

    def _repr_html_(self):
        # As an image: a notebook from elsewhere shows no SVG of its own until its reader trusts it.
        data = base64.b64encode(self.svg.encode()).decode()
        return (
            f'<img alt="{escape(self.caption)}" src="data:image/svg+xml;base64,{data}" '
            'style="max-width:100%;height:auto">'
        )

    def save(self, path: str | Path) -> None:
        """Write the picture to a file, whose name ends in ``.svg``."""
        if not str(path).endswith(".svg"):
            raise UserError(f"a drawing is saved as SVG, but the name is {path}; end it in .svg")
        Path(path).write_text(self.svg, encoding="utf-8")


def draw(outputs, names: dict | None = None, max_boxes: int = 40) -> Drawing:
    """Draw how tensors were made: their computation graph, from the leaves down.

    A box is a tensor: the op that made it, its shape, and its numbers if they are few (those that
    the graph did not keep are computed anew). If their order matters, arguments enter from left to
    right. Dashed and orange boxes are what :func:`tinymaml.grad` recorded on its walk back, with
    ``create_graph=True``.

    Parameters
    ----------
    outputs : Tensor, or list, tuple or dict of them
        For example a loss, or a gradient.
    names : dict, optional
        Names of tensors and arrays: the parameters, or nested
        ``{"theta": params, "theta'": adapted}``.
    max_boxes : int
        A larger graph is folded: ops that were recorded one after another in one forward pass, one
        derivative, one gradient step (``descend``) or one of the nested ``names`` share a box. In a
        forward pass alone, those in its middle do.

    Returns
    -------
    Drawing
        What a notebook shows; with ``svg``, its text, and ``save(path)``.

    Raises
    ------
    ValueError
        If no output has a graph.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> x = tm.tensor(2.0, requires_grad=True)
    >>> tm.draw(x * x + np.sin(x), {"x": x})
    Drawing(caption='Computation graph of 3 operations.')
    """
    if not 5 <= max_boxes <= MOST_BOXES:
        raise UserError(f"max_boxes is {max_boxes}; give a number from 5 to {MOST_BOXES}")
    graph = Graph(outputs, names)
    boxes = graph.boxes() if graph.size <= max_boxes else graph.folded(max_boxes)
    caption = f"Computation graph of {count_of(len(graph.ops), 'operation')}."
    folded = [box.count for box in boxes if box.count > 1 and box.kind not in (LEAF, CONSTANT)]
    if folded:
        boxes_with = count_of(len(folded), "box", "boxes") + " with a shadow"
        caption += f" {sum(folded):,} of them are folded into {boxes_with}"
        caption += f"; max_boxes={graph.size} shows all." if graph.size <= MOST_BOXES else "."
    return Drawing(caption, render(boxes, caption))
