"""Pictures of computation graphs: what is in them is what was recorded."""

import base64
import re
import xml.etree.ElementTree as ET
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

import tinymaml as tm
from tinymaml.engine.tensor import ancestors, thread
from tinymaml.errors import UserError
from tinymaml.pictures.drawing import layered
from tinymaml.pictures.drawing.graph import Graph
from tinymaml.pictures.drawing.svg import BACKWARD, CONSTANT, LEAF, LOOKS

SVG = "{http://www.w3.org/2000/svg}"


def leaf(values, dtype=float):
    return tm.tensor(values, dtype, requires_grad=True)


def groups(drawing):
    """Return the boxes of a picture: what each says in full, its lines, and its outermost frame."""
    found = []
    for group in ET.fromstring(drawing.svg).iter(f"{SVG}g"):
        title = group.find(f"{SVG}title")
        if title is not None:
            lines = [text.text for text in group.findall(f"{SVG}text")]
            found.append((title.text, lines, group.findall(f"{SVG}rect")[-1].attrib))
    return found


def full(drawing):
    return Counter(title for title, _, _ in groups(drawing))


def lines(drawing):
    return [text for _, lines, _ in groups(drawing) for text in lines]


def line_graph():
    """Return the loss of a line on two points, its parameters, and its gradient."""
    params = {"a": leaf(1.0), "b": leaf(0.5)}
    x, y = tm.tensor([1.0, 2.0]), tm.tensor([2.0, 1.0])
    loss = ((params["a"] * x + params["b"] - y) ** 2).mean()
    return loss, params, tm.grad(loss, params, create_graph=True)


def maml(steps=1, **options):
    """Return a meta-loss, the parameters and the tasks."""
    rng = np.random.default_rng(0)
    model = tm.nn.mlp((1, 5, 5, 1))
    params = model.init(rng)
    loss = lambda params, x, y: tm.nn.mse_loss(model(params, x), y)
    batches = [
        tm.Batch(
            *[tm.engine.backend.asarray(rng.standard_normal((3, 4, 1)), "f4") for _ in range(2)]
        )
        for _ in range(2)
    ]
    tasks = tm.Task(*batches)
    value = tm.maml.meta_loss(loss, params, tasks, lr=0.1, steps=steps, **options)
    return value, params, tasks


# What is shown
def test_every_tensor_has_a_box_with_its_op_shape_and_value():
    x, y = leaf(2.0), leaf([3.0, 4.0])
    picture = tm.draw(np.sum(x * y + np.sin(x)), {"x": x, "y": y})
    assert full(picture) == {
        "shape (), float64, 2": 1,
        "shape (2,), float64, [3, 4]": 1,
        "multiply, shape (2,), float64, [6, 8]": 1,
        "sin, shape (), float64, 0.9093": 1,
        "add, shape (2,), float64, [6.909, 8.909]": 1,
        "sum, shape (), float64, 15.82": 1,
    }
    assert picture.caption == "Computation graph of 4 operations."


def test_an_arrow_for_every_argument():
    x = leaf([1.0, 2.0])
    picture = tm.draw(np.sum(x * x + 3.0))
    heads = [path.get("d") for path in ET.fromstring(picture.svg).iter(f"{SVG}path")][1::2]
    assert sum(d.count("z") for d in heads) == 4  # x twice, and two results
    assert "add(·, 3)" in lines(picture)


def test_values_that_the_graph_did_not_keep_are_computed_anew():
    x, y = leaf([3.0]), leaf([4.0])
    z = (x + y) - (y + x) * 2  # add and subtract keep nothing
    assert all(type(a) is not tm.Tensor for a in z.node.args)
    assert full(tm.draw(z)) == {
        "shape (1,), float64, [3]": 1,
        "shape (1,), float64, [4]": 1,
        "add, shape (1,), float64, [7]": 2,
        "multiply(·, 2), shape (1,), float64, [14]": 1,
        "subtract, shape (1,), float64, [-7]": 1,
    }


def test_constants_that_the_graph_did_not_keep_are_shown_while_they_exist():
    data = tm.tensor([1.0, 2.0])
    y = leaf([0.0, 0.0]) - data
    assert "(2,)  [1, 2]" in lines(tm.draw(y))
    assert ["data", "(2,)  [1, 2]"] in [text for _, text, _ in groups(tm.draw(y, {"data": data}))]
    del data
    assert "shape (2,), float64" in full(tm.draw(y))


def test_the_numbers_of_a_large_tensor_are_not_shown():
    picture = tm.draw(np.exp(leaf(np.ones((2, 3)))))
    assert full(picture) == {"shape (2, 3), float64": 1, "exp, shape (2, 3), float64": 1}


def test_leaves_constants_and_outputs_look_different():
    x = leaf(1.0)
    picture = tm.draw(x * tm.tensor(2.0))
    frames = {title: rect for title, _, rect in groups(picture)}
    x_frame, constant = (frames[f"shape (), float64, {n}"] for n in (1, 2))
    assert x_frame["stroke"] == LOOKS[LEAF][1] and constant["stroke"] == LOOKS[CONSTANT][1]
    assert float(x_frame["rx"]) > float(constant["rx"]) == 0  # also without colour
    widths = {title: float(rect["stroke-width"]) for title, rect in frames.items()}
    assert max(widths, key=widths.get) == "multiply, shape (), float64, 2"


def test_the_order_of_arguments_is_from_left_to_right_where_it_matters():
    x, y = leaf(1.0), leaf(2.0)
    for a, b in ((x, y), (y, x)):
        (_, row) = layered.place(Graph(np.exp(a) - np.exp(b), None).boxes())[-2:]
        (place,) = row
        first, second = place.above
        assert first[1] < second[1]
        assert [p.full.split(", ")[-1] for p, _ in (first, second)] == [
            f"{np.exp(t.item()):.4g}" for t in (a, b)
        ]


# Second order
def test_dashed_are_exactly_the_tensors_that_the_walk_back_recorded():
    loss, params, _ = line_graph()
    before = leaf(0.0).node.order
    gradient = tm.grad(loss, params, create_graph=True)
    after = leaf(0.0).node.order
    outputs = [loss, *gradient.values(), np.exp(gradient["a"])]
    by_order = [n for n in ancestors([t.node for t in outputs]) if before < n.order < after]
    marked = [n for n in ancestors([t.node for t in outputs]) if n.in_derivative]
    assert marked == by_order and marked
    dashed = [
        lines[0].split("(")[0]
        for _, lines, rect in groups(tm.draw(outputs[:1] + outputs[3:]))
        if rect["stroke-dasharray"] == LOOKS[BACKWARD][2]
    ]
    needed = ancestors([outputs[-1].node])
    assert Counter(dashed) == Counter(n.op.name for n in needed if n in marked)


def test_without_create_graph_nothing_is_marked_and_recording_goes_on_as_before():
    x = leaf(2.0)
    y = np.sin(x) * x
    assert tm.grad(y, x).node is None
    with pytest.raises(ValueError):
        tm.grad(y, leaf(1.0), create_graph=True)
    assert thread.state.recording
    assert not thread.state.in_derivative
    assert not (x * x).node.in_derivative


def test_the_legend_says_what_is_there():
    x = leaf(2.0)
    first = tm.grad(x**3, x, create_graph=True)
    assert ">recorded while differentiating<" in tm.draw(first).svg
    assert ">recorded while differentiating<" not in tm.draw(x**3).svg
    assert ">constant<" not in tm.draw(x**3).svg


# Folding
def random_graph(rng, leaves, ops):
    tensors = [leaf(float(i)) for i in range(leaves)]
    for _ in range(ops):
        i, j = rng.integers(len(tensors), size=2)
        tensors.append(tensors[i] * tensors[j] if i % 2 else np.sin(tensors[i]))
    return tensors


@pytest.mark.parametrize("max_boxes", [5, 6, 12, 40])
@pytest.mark.parametrize("make", ["chain", "random", "maml", "gradient"])
def test_folding_bounds_the_boxes_and_loses_no_op(make, max_boxes):
    if make == "chain":
        outputs = x = leaf(1.0)
        for i in range(100):
            outputs = outputs * x + tm.tensor(float(i))
    elif make == "random":
        outputs = random_graph(np.random.default_rng(max_boxes), 20, 100)
    else:
        outputs, params, _ = maml(steps=3)
        if make == "gradient":
            outputs = tm.grad(outputs, params, create_graph=True)
    graph = Graph(outputs, None)
    boxes = graph.folded(max_boxes)
    assert len(boxes) <= max_boxes
    assert sum(box.count for box in boxes if box.kind not in (LEAF, CONSTANT)) == len(graph.ops)
    seen = set()
    for box in boxes:  # no circles: every box comes after all it is made from
        assert seen.issuperset(box.sources)
        seen.add(box)
    tm.draw(outputs, max_boxes=max_boxes)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_folded_maml_step_reads_as_the_algorithm(steps):
    value, params, _ = maml(steps)
    names = [
        box.name for box in Graph(value, params).folded(30) if box.kind not in (LEAF, CONSTANT)
    ]
    assert names == ["forward", "derivative", "gradient step"] * steps + ["forward", ""]


def test_nested_names_are_folded_together():
    params = {"a": leaf(1.0), "b": leaf(0.5)}
    batch = tm.Batch(tm.tensor([1.0, 2.0]), tm.tensor([2.0, 1.0]))
    loss = lambda p, x, y: ((p["a"] * x + p["b"] - y) ** 2).mean()
    adapted = tm.maml.adapt(loss, params, batch, lr=0.1)
    picture = tm.draw(
        loss(adapted, *batch), {"theta": params, "theta'": adapted, "D": batch}, max_boxes=12
    )
    found = {text[0]: text[1:] for _, text, _ in groups(picture)}
    assert found["theta"] == ["2 numbers", "a, b"]
    assert found["theta'"] == ["2 operations", "descend ×2"]
    assert found["D.x"] == ["(2,)  [1, 2]"]
    assert "folded into" in picture.caption


def test_the_caption_says_how_to_see_all():
    value, params, _ = maml()
    caption = tm.draw(value, params, max_boxes=20).caption
    whole = int(re.search(r"max_boxes=(\d+) shows all", caption).group(1))
    assert "folded" not in tm.draw(value, params, max_boxes=whole).caption
    assert "folded" in tm.draw(value, params, max_boxes=whole - 1).caption


@pytest.mark.slow
def test_a_graph_of_a_hundred_thousand_ops():
    y = x = leaf(1.0)
    for _ in range(100_000):
        y = y + x
    picture = tm.draw(y)
    assert picture.caption.startswith("Computation graph of 100,000 operations.")
    assert len(groups(picture)) <= 40


# Layout
@pytest.mark.parametrize("seed", range(5))
def test_edges_point_down_and_nothing_overlaps(seed):
    rng = np.random.default_rng(seed)
    rows = layered.place(Graph(random_graph(rng, 5, 40), None).boxes())
    for above, row in pairwise(rows):
        assert max(p.bottom for p in above) < min(p.top for p in row)
    for row in rows:
        for p, q in pairwise(row):  # lanes of long edges are places too, so no edge meets a box
            assert p.x + p.width / 2 <= q.x - q.width / 2
    layer = {p: i for i, row in enumerate(rows) for p in row}
    for p in layer:
        assert all(layer[upper] == layer[p] - 1 for upper, _ in p.above)


# Names and text
def test_boxes_bear_the_names_of_the_caller():
    loss, params, gradient = line_graph()
    picture = tm.draw(gradient, params | {"loss": loss})
    named = {text[0] for _, text, _ in groups(picture) if len(text) > 1}
    assert {"a", "b", "output a", "output b"} <= named
    assert "loss" in lines(tm.draw(loss, {"loss": loss}))
    assert not {"a", "b"} & set(lines(tm.draw(loss)))


@pytest.mark.parametrize("name", ["<b>&amp;\"'", "]]><script>", "line\nfeed\x00\x1b", "日本語", ""])
def test_names_are_text_whatever_they_are(name):
    shout = tm.op(np.sin, "x", lambda g, x: g * np.cos(x), name=f"op{name}")
    x = leaf(2.0)
    picture = tm.draw({name: shout(x)}, {name: x})
    expected = "".join(c if c.isprintable() else "\ufffd" for c in name)
    found = lines(picture)
    assert found.count(expected) == (1 if name else 0)
    assert f"output {expected}".rstrip() in [text.rstrip() for text in found]
    assert f"op{expected}" in found


def test_an_op_shows_the_numbers_and_words_that_it_was_given():
    scaled = tm.op(
        lambda x, unit, factor, axis, hidden=None: x * factor,
        "x unit factor",
        lambda g, factor: g * factor,
        None,
        None,
        name="scaled",
    )
    x = leaf([1.0])
    assert "scaled(·, m, 1.00001, axis=0)" in lines(tm.draw(scaled(x, "m", 1.00001, axis=0)))
    assert "scaled(·, None, 2, axis=0)" in lines(tm.draw(scaled(x, None, 2, axis=0, hidden=None)))


def test_a_notebook_shows_the_picture_as_an_image():
    picture = tm.draw(np.sin(leaf(2.0)))
    html = picture._repr_html_()
    assert ET.fromstring(html[:-1] + "/>").get("alt") == picture.caption
    assert html.startswith('<img alt="Computation graph of 1 operation."')
    data = re.search('base64,([^"]+)', html).group(1)
    assert base64.b64decode(data).decode() == picture.svg


def test_save(tmp_path):
    picture = tm.draw(np.sin(leaf(2.0)))
    picture.save(tmp_path / "graph.svg")
    assert (tmp_path / "graph.svg").read_text(encoding="utf-8") == picture.svg
    with pytest.raises(UserError, match=r"end it in \.svg"):
        picture.save(tmp_path / "graph.png")


# Misuse
def test_without_a_graph_the_error_says_what_to_do():
    x = leaf(2.0)
    for outputs in (tm.tensor(1.0), tm.grad(x * x, x), {"y": (x * x).detach()}):
        with pytest.raises(ValueError, match=r"no graph to draw.*create_graph=True"):
            tm.draw(outputs)
    with pytest.raises(TypeError, match="a Tensor, or a dict, list or tuple of them, not ndarray"):
        tm.draw(np.ones(2))
    with pytest.raises(TypeError, match="names is Tensor; give a dict"):
        tm.draw(x * x, x)
    with pytest.raises(UserError, match="max_boxes is 4"):
        tm.draw(x * x, max_boxes=4)


def test_an_output_that_depends_on_nothing_is_a_constant_beside_the_others():
    x = leaf(2.0)
    picture = tm.draw({"x": tm.grad(3 * x, x, create_graph=True), "y": 3 * x, "z": tm.tensor(7.0)})
    assert "shape (), float64, 7" in full(picture)
    assert tm.draw(x).caption == "Computation graph of 0 operations."


def test_the_picture_is_the_same_on_another_backend(request):
    name = request.config.getoption("--backend")
    pictures = []
    for backend in ("numpy", "strict" if name == "numpy" else name):
        with tm.use_backend(backend):
            x, y = leaf([[1.0, 2.0]], np.float32), tm.tensor([[3], [4]])
            z = np.sum(np.matmul(x, y.astype(np.float32)) * np.maximum(x, 1.5))
            g = tm.grad(z, x, create_graph=True)
            pictures.append(tm.draw({"z": z, "g": g}, {"x": x, "y": y}).svg)
    assert pictures[0] == pictures[1]


# Tensors in print
def test_a_small_tensor_prints_its_values_in_one_line():
    assert repr(leaf([[1.0, 2.0], [3.0, 4.5]])) == (
        "Tensor([[1. , 2. ], [3. , 4.5]], requires_grad=True)"
    )


def test_a_large_tensor_prints_what_it_is_like():
    x = tm.tensor(np.arange(12.0).reshape(3, 4), np.float32)
    assert repr(x) == "Tensor(shape=(3, 4), min=0, mean=5.5, max=11, dtype=float32)"
    assert repr(np.exp(leaf(np.zeros(12)))) == ("Tensor(shape=(12,), min=1, mean=1, max=1, op=exp)")
    assert repr(tm.tensor(np.zeros((0, 3)))) == "Tensor(shape=(0, 3))"
    assert "mean=nan" in repr(tm.tensor(np.full(11, np.nan)))
    assert repr(tm.tensor(np.arange(11) > 4)) == (
        "Tensor(shape=(11,), min=0, mean=0.545, max=1, dtype=bool)"
    )


def test_every_parameter_prints_in_one_line():
    params = tm.nn.conv4(5).init(np.random.default_rng(0))
    assert all("\n" not in repr(p) and len(repr(p)) < 110 for p in params.values())
