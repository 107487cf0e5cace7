"""The page "Under your hand": its numbers are Python's, and every hand can work it.

The page is put together here from its blocks of HTML, as Sphinx does, and opened as a file in
Chromium; without playwright and a Chromium all but the first test are skipped.
"""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import tinymaml as tm

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RAW = re.compile(r"^```{raw} html\n(.*?)^```", re.M | re.S)

pytestmark = pytest.mark.numpy_only


def generated_networks():
    """Return what ``docs/pages.py`` writes into the page."""
    spec = importlib.util.spec_from_file_location("pages", DOCS / "pages.py")
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    return pages.networks()


def test_the_page_is_led_to():
    for name in ("docs/learn.md", "notebooks/03_maml_by_hand.ipynb", "notebooks/04_sinusoid.ipynb"):
        assert "hand.md)" in (ROOT / name).read_text(encoding="utf-8"), name


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The address of the page, as a file."""
    folder = tmp_path_factory.mktemp("hand")
    (folder / "_static").mkdir()
    for name in ("hand.js", "hand.css"):
        shutil.copyfile(DOCS / "static" / name, folder / "_static" / name)
    text = (DOCS / "hand.md").read_text(encoding="utf-8")
    text = text.replace("<!-- generated: networks -->", generated_networks())
    head = (
        '<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    )
    (folder / "hand.html").write_text(head + "\n".join(RAW.findall(text)), encoding="utf-8")
    return (folder / "hand.html").as_uri()


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here")
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[docs]'")
    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, page):
    """Open the page in a window of its own; a message or an address outside is a fault."""
    faults, windows = [], []

    def open(**settings):
        settings = {
            "viewport": {"width": 1280, "height": 1000},
            "reduced_motion": "reduce",
        } | settings
        windows.append(browser.new_context(**settings))
        tab = windows[-1].new_page()
        tab.on("console", lambda message: faults.append(message.text))
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.on("request", lambda r: r.url.startswith("file:") or faults.append(r.url))
        tab.goto(page)
        return tab

    yield open
    for window in windows:
        window.close()
    assert not faults


def shown(tab, name, figure="#two-tasks"):
    return tab.locator(f'{figure} [data-show="{name}"]').text_content()


def numbers(text):
    """Return the numbers of a text such as (1.250, −0.750)."""
    return [float(n) for n in re.findall(r"-?\d+\.?\d*", text.replace("−", "-"))]


# The numbers


def lines():
    """Return notebook 3's loss, tasks and their best parameters, by its own cells."""
    notebook = json.loads((ROOT / "notebooks/03_maml_by_hand.ipynb").read_text(encoding="utf-8"))
    sources = ["".join(cell["source"]) for cell in notebook["cells"]]
    names = {"np": np, "tm": tm}
    for start in ("def line(params, x)", "best = np.array("):
        exec(next(source for source in sources if source.startswith(start)), names)
    return names["line_loss"], names["tasks"], names["best"]


def close(actual, desired):
    np.testing.assert_allclose(actual, desired, rtol=0, atol=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 1 / 8, 0.191, 1 / 4, 0.4])
@pytest.mark.parametrize("theta", [[0.0, 0.0], [-1.37, 2.9]])
def test_the_two_tasks_are_notebook_3s(open_page, alpha, theta):
    loss, tasks, best = lines()
    tab = open_page()
    close(tab.evaluate("TASKS.map((task) => task.best)"), best)
    js = tab.evaluate("([alpha, theta]) => quadratics(alpha, theta)", [alpha, theta])
    params = {"theta": tm.tensor(np.array(theta), requires_grad=True)}
    adapted = tm.maml.adapt(loss, tm.maml.per_task(params, 2), tasks.support, lr=alpha)
    close([share["moved"] for share in js["shares"]], adapted["theta"].numpy())
    for name, first_order in (("meta", False), ("first", True)):
        value = tm.maml.meta_loss(loss, params, tasks, lr=alpha, first_order=first_order)
        close(js[name], tm.grad(value, params)["theta"].numpy())
        close(js["loss"], value.item())
    for i, share in enumerate(js["shares"]):
        task = tm.Task(*[tm.Batch(*[a[i : i + 1] for a in batch]) for batch in tasks])
        value = tm.maml.meta_loss(loss, params, task, lr=alpha)
        close(share["share"], tm.grad(value, params)["theta"].numpy())
    H = tm.func.hessian(lambda t: loss({"theta": t}, tasks.support.x[0], tasks.support.y[0]))
    close(js["factors"], np.linalg.eigvalsh(np.eye(2) - alpha * H(np.array(theta))))


POINTS = [[-4.2, 2.0], [-1.3, -3.1], [0.0, 0.4], [2.6, 1.7]]


@pytest.mark.parametrize("key, name", [("maml", "sinusoid"), ("pooled", "sinusoid-pretrained")])
@pytest.mark.parametrize("points", [POINTS, POINTS[:1]])
def test_the_network_adapts_as_pythons(open_page, key, name, points):
    learner, params = tm.pretrained(name)
    theta = {
        k: tm.tensor(p.numpy().astype(np.float64), requires_grad=True) for k, p in params.items()
    }
    support = tm.Batch(*np.array(points).T[..., None])

    def loss(params, x, y):
        return tm.nn.mse_loss(learner.model(params, x), y)

    js = open_page().evaluate(
        """([key, points, alpha, steps]) => {
            const networks = JSON.parse(document.getElementById("networks").textContent)
            return adapt(decode(networks[key]), points, alpha, steps).map((layers) => ({
                weights: layers.flatMap(({ W, b }) => [W, b]),
                loss: loss(layers, points),
                curve: [-5, -1.3, 0.25, 5].map((x) => predict(layers, x)),
            }))
        }""",
        [key, points, 0.005, 10],
    )
    assert len(js) == 11
    for steps, after in enumerate(js):
        adapted = tm.maml.adapt(loss, theta, support, lr=0.005, steps=steps)
        for ours, theirs in zip(adapted.values(), after["weights"], strict=True):
            np.testing.assert_allclose(theirs, ours.numpy(), rtol=0, atol=1e-9)
        np.testing.assert_allclose(after["loss"], loss(adapted, *support).item(), rtol=1e-9)
        curve = learner.model(adapted, np.array([[-5], [-1.3], [0.25], [5]])).numpy()[:, 0]
        np.testing.assert_allclose(after["curve"], curve, rtol=0, atol=1e-9)


def test_what_is_drawn_is_what_was_computed(open_page):
    tab = open_page()
    place = tab.locator("#two-tasks path.moved").first.get_attribute("transform")
    a, b = numbers(shown(tab, "moved0"))
    np.testing.assert_allclose(numbers(place), [(a + 2) * 80, (3.5 - b) * 80], atol=0.1)
    curve = tab.locator("#clicked-wave path.meta.after").get_attribute("d")
    last = numbers(curve.split("L")[-1])
    y = tab.evaluate(
        """() => {
            const networks = JSON.parse(document.getElementById("networks").textContent)
            const [A, phase, xs] = WAVES[0]
            const points = xs.map((x) => [x, A * Math.sin(x - phase)])
            return predict(adapt(decode(networks.maml), points, 0.01, 1)[1], 5)
        }"""
    )
    np.testing.assert_allclose(last, [480, (6 - y) / 12 * 320], atol=0.01)


# What the page says


def test_what_to_look_for_in_the_first_picture(open_page):
    tab = open_page()
    tab.get_by_role("button", name="α = 1/λ").click()
    assert shown(tab, "steep") == "0.000"
    alpha = tab.get_by_role("slider", name="inner rate α")
    alpha.fill("0.375")
    (_, first), (_, meta) = numbers(shown(tab, "first")), numbers(shown(tab, "meta"))
    assert first > 0 > meta  # the wrong way along b
    alpha.fill("0")
    assert shown(tab, "first") == shown(tab, "meta")
    for rate, end, first_end in (("0.125", [1, 0.75], [0.75, 1]), ("0.25", [1, 0.75], None)):
        alpha.fill(rate)
        tab.get_by_role("button", name="θ = (0, 0)").click()
        tab.get_by_role("button", name="15 meta-steps").click()
        np.testing.assert_allclose([float(shown(tab, "a")), float(shown(tab, "b"))], end, atol=0.02)
        transform = tab.locator("#two-tasks .plane path.mark.first").last.get_attribute("transform")
        u, v = numbers(transform)
        place = [u / 80 - 2, 3.5 - v / 80]
        if first_end:
            np.testing.assert_allclose(place, first_end, atol=0.02)
        else:
            np.testing.assert_allclose(place, [3.75, 0], atol=0.02)  # a quarter a step, without end


def test_what_to_look_for_in_the_second_picture(open_page):
    tab = open_page()

    def errors(alpha, steps):
        tab.get_by_role("slider", name="step size α").fill(
            str([0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05].index(alpha))
        )
        tab.get_by_role("slider", name="gradient steps").fill(str(steps))
        texts = [
            shown(tab, name, "#clicked-wave") for name in ("before0", "after0", "before1", "after1")
        ]
        return [np.inf if text == "very large" else float(text) for text in texts]

    for wave in range(3):
        before, one, _, _ = errors(0.01, 1)
        _, ten, other_before, other = errors(0.01, 10)
        assert ten < 0.05 * before and other > 0.15 * other_before and ten < one
        _, far, _, other = errors(0.05, 10)
        assert far == np.inf and other < 100
        if wave == 0:
            before, after, other_before, other = errors(0.01, 1)
            assert after < 0.1 * before and other > 0.5 * other_before
        tab.get_by_role("button", name="another wave").click()
    tab.get_by_role("button", name="remove all").click()
    tab.get_by_role("button", name="add a point").click()
    tab.keyboard.press("Shift+ArrowUp")
    before, after, *_ = errors(0.01, 1)
    assert after > before
    before, after, *_ = errors(0.002, 1)
    assert after < 0.1 * before


# Hands


def test_keys(open_page):
    tab = open_page()
    tab.get_by_role("slider", name="inner rate α").focus()
    tab.keyboard.press("ArrowRight")
    assert shown(tab, "alpha") == "0.126"
    tab.get_by_role("button", name="θ = (0.00, 0.00)").focus()
    for key in ("ArrowRight", "ArrowUp", "Shift+ArrowUp"):
        tab.keyboard.press(key)
    assert (shown(tab, "a"), shown(tab, "b")) == ("0.10", "1.10")
    assert tab.get_by_role("slider", name="θ: b").input_value() == "1.1"

    def count():
        return int(shown(tab, "count", "#clicked-wave"))

    tab.get_by_role("button", name="add a point").focus()
    tab.keyboard.press("Enter")
    tab.keyboard.press("ArrowLeft")
    assert count() == 6
    assert shown(tab, "chosen", "#clicked-wave") == "point 6 at (−0.10, 0.00)"
    assert (
        tab.evaluate("document.activeElement.getAttribute('aria-label')")
        == "point 6 at (−0.10, 0.00)"
    )
    for left in range(5, -1, -1):  # the focus goes on to a point that is left
        tab.keyboard.press("Delete")
        assert count() == left
    assert tab.evaluate("document.activeElement.name") == "extra"
    assert shown(tab, "before0", "#clicked-wave") == "–"


def test_mouse(open_page):
    tab = open_page()
    tab.get_by_role("button", name="remove all").click()
    box = tab.locator("#clicked-wave svg").bounding_box()

    def at(x, y):
        return box["x"] + (x + 5) / 10 * box["width"], box["y"] + (6 - y) / 12 * box["height"]

    def chosen():
        return numbers(shown(tab, "chosen", "#clicked-wave").split("at")[1])

    tab.mouse.click(*at(2, -3))
    np.testing.assert_allclose(chosen(), [2, -3], atol=0.03)
    tab.mouse.move(*at(2, -3))
    tab.mouse.down()
    tab.mouse.move(*at(-4, 1), steps=4)
    tab.mouse.up()
    tab.mouse.move(*at(0, 0))  # it has been let go
    np.testing.assert_allclose(chosen(), [-4, 1], atol=0.03)
    assert shown(tab, "count", "#clicked-wave") == "1"  # the drag added none
    tab.get_by_role("button", name="remove the point").click()
    assert shown(tab, "count", "#clicked-wave") == "0"


def test_fingers(open_page):
    """On a phone: taps add points, a finger drags one, and the page scrolls beside them."""
    tab = open_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    svg = tab.locator("#clicked-wave svg")
    svg.scroll_into_view_if_needed()
    box = svg.bounding_box()
    tab.touchscreen.tap(box["x"] + 0.5 * box["width"], box["y"] + 0.2 * box["height"])
    assert shown(tab, "count", "#clicked-wave") == "6"
    start = numbers(shown(tab, "chosen", "#clicked-wave").split("at")[1])
    fingers = tab.context.new_cdp_session(tab)

    def swipe(x, y, down):
        for kind, dy in (
            ("touchStart", 0),
            *(("touchMove", down * i / 5) for i in range(1, 6)),
            ("touchEnd", None),
        ):
            points = [] if dy is None else [{"x": x, "y": y + dy}]
            fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    box, scrolled = svg.bounding_box(), tab.evaluate("scrollY")
    swipe(box["x"] + 0.5 * box["width"], box["y"] + 0.2 * box["height"], 60)
    end = numbers(shown(tab, "chosen", "#clicked-wave").split("at")[1])
    assert abs(end[1] - start[1] + 60 / box["height"] * 12) < 0.3 and abs(end[0] - start[0]) < 0.1
    assert tab.evaluate("scrollY") == scrolled
    swipe(box["x"] + 0.25 * box["width"], box["y"] + 0.95 * box["height"], -60)
    assert tab.evaluate("scrollY") != scrolled
    assert shown(tab, "count", "#clicked-wave") == "6"


def test_a_walk_is_a_film_unless_motion_is_unwelcome(open_page):
    steps = """() => {
        document.querySelector("[name=many]").click()
        return document.querySelector("[data-show=steps]").textContent
    }"""
    assert open_page(reduced_motion="reduce").evaluate(steps) == "15"
    tab = open_page(reduced_motion="no-preference")
    assert tab.evaluate(steps) == "0"
    tab.locator("#two-tasks [data-show=steps]", has_text="15").wait_for()


def test_everything_that_takes_the_focus_has_a_name(open_page):
    tab = open_page()
    focusable = tab.locator("input, button, [tabindex]")
    roles = {"range": "slider", "checkbox": "checkbox"}
    for i in range(focusable.count()):
        element = focusable.nth(i)
        role = roles.get(element.get_attribute("type"), "button")
        named = tab.get_by_role(role, name=re.compile(r"\w"))
        assert element.evaluate("(e, all) => all.includes(e)", named.element_handles())
