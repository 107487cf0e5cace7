"""Pictures that move under the hand: sliders, and a pad to draw on.

They need ipywidgets and ipycanvas, which come with ``pip install 'tinymaml[notebooks]'``. Without
these the same call draws one picture that stands still.
"""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from ..tasks.omniglot import SIDE, SIZE

PAD = 2 * SIDE  # pixels of a screen: each pixel of an Omniglot drawing is 2 wide
PEN = 5  # pixels of a drawing: thinner lines fall between those that are kept

Strokes = Sequence[Sequence[tuple[float, float]]]


def ink(strokes: Strokes) -> np.ndarray:
    """Return strokes as an image such as Omniglot's: drawn large, then shrunk by nearest pixels.

    Parameters
    ----------
    strokes : sequence of strokes
        Each a sequence of points (x, y), in percent of the paper from its upper left corner.

    Returns
    -------
    float32 array, shape (28, 28, 1)
        1 where there is ink, and 0 elsewhere.

    Examples
    --------
    >>> cross = ink([[(50, 10), (50, 90)], [(10, 50), (90, 50)]])
    >>> cross.shape, cross[14, 14].item(), cross[3, 3].item()
    ((28, 28, 1), 1.0, 0.0)
    """
    paper = Image.new("L", (SIDE, SIDE))
    pen = ImageDraw.Draw(paper)
    for stroke in strokes:
        points = [(x * SIDE / 100, y * SIDE / 100) for x, y in stroke]
        pen.line(points, fill=255, width=PEN, joint="curve")
        for x, y in points:  # round ends, and a dot where the pen did not move
            pen.ellipse((x - PEN / 2, y - PEN / 2, x + PEN / 2, y + PEN / 2), fill=255)
    small = paper.resize((SIZE, SIZE), Image.Resampling.NEAREST)
    return np.asarray(small, dtype=np.float32)[..., None] / 255


def sliders(
    draw: Callable,
    start: Sequence[float],
    low: float | Sequence[float],
    high: float | Sequence[float],
    another: Callable | None = None,
    names: Sequence[str] = (),
) -> None:
    """Draw a picture of some numbers, with a slider for each of them where there are widgets.

    Parameters
    ----------
    draw : callable
        Takes the list of the numbers, and draws one figure with pyplot.
    start : sequence of float
    low, high : float, or a sequence of them
        Between which the numbers move, in 100 steps; one for all, or one for each.
    another : callable, optional
        Returns other numbers; with it there is a button that takes them.
    names : sequence of str, optional
        What stands above each slider.
    """
    try:
        import ipywidgets
    except ImportError:
        draw(list(start))
        return
    from IPython.display import display
    from matplotlib import pyplot

    row = []
    for i, (least, most) in enumerate(np.broadcast_to(np.transpose([low, high]), (len(start), 2))):
        look = {"min": least, "max": most, "step": (most - least) / 100, "readout_format": ".2f"}
        look |= {"description": names[i] if names else "", "orientation": "vertical"}
        row.append(ipywidgets.FloatSlider(start[i], **look))
    picture = ipywidgets.Output()

    @picture.capture(clear_output=True, wait=True)
    def redraw(_=None):
        draw([slider.value for slider in row])
        pyplot.show()

    def follow():
        for slider in row:
            slider.observe(redraw, "value")

    def take_another(_):
        numbers = another()
        for slider in row:  # no picture of numbers that are half the new ones
            slider.unobserve(redraw, "value")
        for slider, number in zip(row, numbers):
            slider.value = number
        follow()
        redraw()

    follow()
    redraw()
    below = [ipywidgets.HBox(row)]
    if another is not None:
        button = ipywidgets.Button(description="another one")
        button.on_click(take_another)
        below.append(button)
    display(ipywidgets.VBox([picture, *below]))


def drawing_pad(show: Callable, strokes: Strokes = ()) -> list:
    """Show a pad to draw on with mouse or finger, and what is said of the drawing.

    Parameters
    ----------
    show : callable
        Takes the strokes, as `ink` does, and draws one figure with pyplot; called whenever the
        pen is lifted.
    strokes : sequence of strokes
        What is drawn at first.

    Returns
    -------
    list
        The strokes that are on the pad; it grows as one draws.
    """
    drawn = [list(stroke) for stroke in strokes]
    try:
        import ipywidgets
        from ipycanvas import Canvas
    except ImportError:
        show(drawn)
        return drawn
    from IPython.display import display
    from matplotlib import pyplot

    said = ipywidgets.Output()
    canvas = Canvas(width=PAD, height=PAD, layout={"border": "1px solid gray"})
    clear = ipywidgets.Button(description="a clean sheet")
    pen_is_down = False

    def redraw():
        canvas.fill_style = "white"
        canvas.fill_rect(0, 0, PAD)
        canvas.line_width, canvas.line_cap, canvas.line_join = PEN * PAD / SIDE, "round", "round"
        for stroke in drawn:
            canvas.stroke_lines([(x * PAD / 100, y * PAD / 100) for x, y in stroke[:1] + stroke])

    def down(x, y):
        nonlocal pen_is_down
        pen_is_down = True
        drawn.append([(x * 100 / PAD, y * 100 / PAD)])

    def move(x, y):
        if pen_is_down:
            drawn[-1].append((x * 100 / PAD, y * 100 / PAD))
            canvas.stroke_lines([(x * PAD / 100, y * PAD / 100) for x, y in drawn[-1][-2:]])

    def up(*_):
        nonlocal pen_is_down
        if pen_is_down:
            pen_is_down = False
            say()

    def clean(_):
        drawn.clear()
        redraw()
        said.clear_output()

    @said.capture(clear_output=True, wait=True)
    def say():
        show(drawn)
        pyplot.show()

    canvas.on_mouse_down(down)
    canvas.on_mouse_move(move)
    canvas.on_mouse_up(up)
    canvas.on_mouse_out(up)
    canvas.on_touch_start(lambda fingers: down(*fingers[0]))
    canvas.on_touch_move(lambda fingers: move(*fingers[0]))
    canvas.on_touch_end(up)
    canvas.on_client_ready(redraw)  # a browser that comes later sees it too
    clear.on_click(clean)
    redraw()
    say()
    display(ipywidgets.HBox([ipywidgets.VBox([canvas, clear]), said]))
    return drawn
