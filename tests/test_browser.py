"""In a browser tab, where Python has no threads, no other processes and not all of its library.

The first part needs no browser. The rest needs ``pip install -e '.[lite,docs]'`` and a Chromium; it
builds the site that ``docs/lite.py`` makes, and is skipped without them.
"""

import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from test_docs import BLOCK, check_extras
from test_notebooks import noise, read, verdicts

TESTS = Path(__file__).parent
ROOT = TESTS.parent

pytestmark = pytest.mark.numpy_only


def use():
    """Do what a class does."""
    import numpy as np

    import tinymaml as tm
    from tinymaml import cli
    from tinymaml.experiments import EXPERIMENTS

    experiment = EXPERIMENTS["sinusoid"]
    theta = experiment.learner.init(np.random.default_rng(0))
    experiment.test(theta, n_tasks=5, progress=True)

    options = ["--steps", "20", "--test-tasks", "10", "--out", "waves"]
    assert cli.main(["train", "sinusoid", *options]) == 0
    assert cli.main(["train", "sinusoid", *options, "--resume", "--steps", "40"]) == 0
    assert cli.main(["evaluate", "waves", "--tasks", "10"]) == 0
    small = ["--meta-batch", "2", "--rollouts", "2", "--test-tasks", "2"]
    assert cli.main(["train", "navigation", *small, "--steps", "1", "--out", "walk"]) == 0
    assert cli.main(["check"]) == cli.main(["list"]) == 0

    learner, params = tm.pretrained("sinusoid")
    x = np.linspace(-5, 5, 10)[:, None]
    y = 3 * np.sin(x)
    assert tm.FewShotRegressor(learner, params).fit(x, y).score(x, y) > 0.9
    photographs = np.zeros((3, 8, 8, 3), np.uint8)
    assert tm.tasks.images.decode_all(photographs, size=4).shape == (3, 4, 4, 3)

    curvature = tm.func.grad(tm.func.grad(np.tanh))
    compiled = tm.compile(curvature)
    for x in (0.3, 0.4, 0.5):
        assert float(compiled(np.array(x))) == curvature(x)
    x = tm.tensor(0.3, requires_grad=True)
    assert "Computation graph of 1 operation" in tm.draw(np.tanh(x))._repr_html_()


USED = f"{inspect.getsource(use)}\nuse()\nprint('used')\n"


def told(folder, code):
    """Return what a Python like that of a browser does and says."""
    paths = os.pathsep.join(map(str, (ROOT, TESTS)))
    settings = {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    command = [sys.executable, "-c", f"import like_a_browser\nlike_a_browser.become()\n{code}"]
    settings = os.environ | settings
    return subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True)


@pytest.mark.parametrize(
    "code",
    [
        "import threading; threading.Thread(target=print).start()",
        "import concurrent.futures as f; f.ThreadPoolExecutor().submit(print)",
        "import subprocess; subprocess.run(['ls'])",
        "import os; os.fork()",
        "import ctypes; ctypes.CDLL(None)",
        "import fcntl",
    ],
)
def test_what_a_browser_lacks_is_refused(tmp_path, code):
    assert told(tmp_path, code).returncode == 1


def test_the_package_works_without_threads_processes_and_system_libraries(tmp_path):
    done = told(tmp_path, USED)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower()
    assert (tmp_path / "waves" / "fits.png").exists()
    assert not (tmp_path / "waves" / ".lock").exists()


# In a browser


@pytest.fixture(scope="module")
def commands():
    """The commands of the page, by what they are for."""
    page = (ROOT / "docs" / "browser.md").read_text(encoding="utf-8")
    (_, install), (_, build), (_, serve) = BLOCK.findall(page)
    return {"install": install, "build": shlex.split(build), "serve": shlex.split(serve)}


@pytest.fixture(scope="module")
def site(commands, tmp_path_factory):
    """The folder of a web server, with the site in a folder below it."""
    pytest.importorskip("jupyterlite_pyodide_kernel", reason="pip install -e '.[lite]'")
    check_extras(commands["install"])
    root = tmp_path_factory.mktemp("server")
    python, script, out = commands["build"]
    command = [sys.executable, ROOT / script, root / "class" / out]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (python, done.returncode) == ("python", 0), done.stderr
    return root


@contextmanager
def served(commands, folder):
    """Serve a folder; the address."""
    _, *options, _ = commands["serve"]
    command = [sys.executable, "-u", *options, folder, "0", "--bind", "127.0.0.1"]
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, **pipe) as server:
        try:
            port = re.search(r"port (\d+)", server.stdout.readline())[1]
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.kill()


NOTEBOOK = "window.jupyterapp?.shell?.currentWidget"
OPEN = f"{NOTEBOOK}?.sessionContext?.session?.kernel && {NOTEBOOK}.content.model.cells.length > 1"
RUN = f"""async () => {{
    await jupyterapp.commands.execute("notebook:run-all-cells")
    return {NOTEBOOK}.content.model.toJSON()
}}"""
CALL = f"""async (code) => {{
    const future = {NOTEBOOK}.sessionContext.session.kernel.requestExecute({{code}}), said = []
    future.onIOPub = ({{content}}) => said.push(content.text ?? content.traceback?.join("") ?? "")
    await future.done
    return said.join("")
}}"""

SHOW_SLIDERS = f"""async () => {{
    const {{content}} = {NOTEBOOK}, {{cells}} = content.model.toJSON()
    const moves = (cell) => JSON.stringify(cell.outputs ?? "").includes("widget-view")
    await content.scrollToItem(cells.findIndex(moves), "start")
}}"""
OTHER_PICTURE = """(before) => {
    const picture = document.querySelector(".jupyter-widgets img")
    return picture && picture.src != before
}"""


@pytest.fixture
def tab():
    """A tab of a Chromium, and the addresses outside this machine that were asked for."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here")
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[docs]'")
    outside = []

    def answer(route):
        if urlsplit(route.request.url).hostname == "127.0.0.1":
            return route.continue_()
        outside.append(route.request.url)
        return route.abort()

    with playwright.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context()
        context.route("**/*", answer)
        context.set_default_timeout(600_000)  # for the first load, on a machine that is busy
        yield context.new_page()
        browser.close()
    assert not outside


def run_notebook(tab, address, name):
    """Run all cells of a notebook; they say what they say as committed, and no more."""
    (path,) = (ROOT / "notebooks").glob(f"{name}_*.ipynb")
    tab.goto(address)
    tab.locator(f"a[href*='{path.name}']").click()
    tab.wait_for_function(OPEN)
    notebook = tab.evaluate(RUN)
    said = ["".join(output["text"]) for output in noise(notebook)]
    assert said in ([], ["Matplotlib is building the font cache; this may take a moment.\n"])
    assert verdicts(notebook) == verdicts(read(path))


def test_a_notebook_and_a_training_run_below_a_folder_of_a_server(commands, site, tab):
    with served(commands, site) as address:
        run_notebook(tab, f"{address}class/maml/", "03")
        said = tab.evaluate(CALL, USED)
        assert "used\n" in said and "warning" not in said.lower()
        assert "sinusoid" in tab.evaluate(CALL, "import os; print(os.listdir('../docs/results'))")


def test_the_first_notebook_runs_from_a_server_of_its_own(commands, site, tab):
    with served(commands, site / "class" / "maml") as address:
        run_notebook(tab, address, "00")
        tab.evaluate(SHOW_SLIDERS)
        picture = tab.locator(".jupyter-widgets img").first
        before = picture.get_attribute("src")
        tab.locator(".jupyter-widgets .noUi-handle").first.press("ArrowUp")
        tab.wait_for_function(OTHER_PICTURE, arg=before)
