"""What moves under the hand: sliders and the drawing pad, with widgets and without."""

import sys

import matplotlib as mpl
import numpy as np
import pytest

from tinymaml.pictures import play

pytestmark = pytest.mark.numpy_only
CROSS = [[(50, 10), (50, 90)], [(10, 50), (90, 50)]]


@pytest.fixture
def shown(monkeypatch):
    """What is displayed: the list of widgets."""
    pytest.importorskip("ipycanvas", reason="pip install -e '.[notebooks]'")
    mpl.use("Agg")
    found = []
    monkeypatch.setattr("IPython.display.display", found.append)
    return found


def test_ink_is_where_the_pen_was():
    image = play.ink(CROSS)
    assert image.dtype == np.float32 and set(np.unique(image)) == {0, 1}
    rows, columns, _ = np.nonzero(image)
    assert (rows.min(), rows.max()) == (columns.min(), columns.max()) == (2, 25)
    assert image[14, 3:25].all() and image[3:25, 14].all() and not image[4:12, 4:12].any()
    np.testing.assert_array_equal(image[..., 0], image[..., 0].T)


def test_a_pen_that_does_not_move_leaves_a_dot_and_no_stroke_leaves_nothing():
    assert 1 <= play.ink([[(50, 50)]]).sum() <= 4
    assert play.ink([]).sum() == 0


def test_lines_have_no_gaps():
    """Nearest pixels are every 3.75th, so a thinner pen would draw dots."""
    for end in np.linspace(0, 100, 21):
        assert (play.ink([[(0, 5), (100, end)]]).sum(axis=0) > 0).all()


@pytest.mark.parametrize("missing", ["ipywidgets", "ipycanvas"])
def test_without_widgets_there_is_one_picture(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    seen = []
    strokes = play.drawing_pad(seen.append, CROSS)
    if missing == "ipywidgets":
        play.sliders(seen.append, (1, 2), low=0, high=5)
        assert seen[1:] == [[1, 2]]
    assert seen[0] == strokes == CROSS and strokes is not CROSS


def test_every_move_of_a_slider_draws(shown):
    seen = []
    play.sliders(seen.append, (1, 2), low=0, high=5, another=lambda: (3.0, 4.0))
    _, row, button = shown[0].children
    assert seen == [[1, 2]] and len(row.children) == 2
    row.children[1].value = 5
    assert seen[1:] == [[1, 5]]
    button.click()  # all numbers change, then there is one picture
    assert seen[2:] == [[3, 4]]
    row.children[0].value = 2
    assert seen[3:] == [[2, 4]]


def test_each_slider_may_have_a_name_and_limits_of_its_own(shown):
    seen = []
    play.sliders(seen.append, (1, 0.5), low=(0, 0), high=(5, 1), names="aα")
    slow, fast = shown[0].children[1].children
    assert (slow.description, slow.max, fast.description, fast.max) == ("a", 5, "α", 1)
    fast.value = 0.51
    assert seen == [[1, 0.5], [1, 0.51]]


@pytest.mark.parametrize("tool", ["mouse", "touch"])
def test_the_pad_follows_the_pen(shown, tool):
    seen = []
    strokes = play.drawing_pad(lambda drawn: seen.append(len(drawn)), CROSS)
    (pad, _said) = shown[0].children
    canvas, clean = pad.children

    def pen(what, x=0, y=0):
        event, at = f"mouse_{what}", {"x": x, "y": y}
        if tool == "touch":
            event, at = (
                {"down": "touch_start", "move": "touch_move", "up": "touch_end"}[what],
                {"touches": [at] * (what != "up")},
            )
        canvas._handle_frontend_event(None, {"event": event, **at}, [])

    if tool == "mouse":
        pen("move", 5, 5)  # with the pen up
    assert strokes == CROSS
    pen("down", 21, 42)
    pen("move", 105, 42)
    pen("up")
    assert strokes[2:] == [[(10, 20), (50, 20)]] and seen == [2, 3]
    clean.click()
    assert strokes == []
