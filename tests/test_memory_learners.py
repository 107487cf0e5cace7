"""MANN and the memory module: by hand, by PyTorch, and what must not leak."""

from dataclasses import replace

import numpy as np
import pytest

import tinymaml as tm
from tinymaml import learners, nn
from tinymaml.engine.backend import asarray
from tinymaml.learners.memory_module import Memory, memories
from tinymaml.parallel.chunks import gradient_by_chunks
from tinymaml.tasks import Batch, Prepared, Task
from tinymaml.tasks.streams import earlier_views, late

BODY = nn.Linear(3, 4)
MANN = learners.MANN(BODY, 4, 3, hidden=5, slots=6, width=4, heads=2)
MODULE = learners.MemoryModule(BODY, width=4, slots=5)
LEARNERS = {"MANN": MANN, "MemoryModule": MODULE}
every = pytest.mark.parametrize("name", LEARNERS)


def host(array):
    return tm.tensor(array).numpy()


def init(learner, seed=1):
    """Parameters in float64, larger than at the start of a training: every gate has a say."""
    rng = np.random.default_rng(seed)
    drawn = {n: p.numpy().astype(float) for n, p in learner.init(rng).items()}
    return {
        n: tm.tensor(p + 0.5 * rng.normal(size=p.shape), requires_grad=True)
        for n, p in drawn.items()
    }


def streams(n=2, classes=3, views=4, seed=0):
    """Streams of three numbers around the centre of their class."""
    rng = np.random.default_rng(seed)
    y = np.stack([rng.permutation(np.arange(classes * views) % classes) for _ in range(n)])
    centres = rng.normal(size=(n, classes, 3))
    x = 2 * centres[np.arange(n)[:, None], y] + 0.3 * rng.normal(size=(*y.shape, 3))
    stream = Batch(asarray(x), asarray(y))
    return Task(Batch(stream.x, late(stream.y)), stream)


def episodes(seed=0):
    """Support and query of one-shot episodes."""
    x, y = streams(views=3, seed=seed).query
    x, y = host(x), host(y)
    first = earlier_views(y) == 0
    parts = [[a[chosen].reshape(2, -1, *a.shape[2:]) for a in (x, y)] for chosen in (first, ~first)]
    return Task(*[Batch(*map(asarray, part)) for part in parts])


# What no learner on streams may do


def peeks(learner, params, known=late):
    """Whether what is said of an image depends on its label, or on what comes after it."""
    x, y = map(host, streams().query)
    said = host(learner.stream(params, asarray(x), known(asarray(y))))
    assert said.shape == (2, 12, 3)
    for t in (0, 4, 11):  # other images after step t, and labels from it on
        other_x, other_y = x.copy(), y.copy()
        other_x[:, t + 1 :] += 1
        other_y[:, t:] = (y[:, t:] + 1) % 3
        other = host(learner.stream(params, asarray(other_x), known(asarray(other_y))))
        if (other[:, : t + 1] != said[:, : t + 1]).any():
            return True
        assert t == 11 or (other[:, t + 1 :] != said[:, t + 1 :]).any()
    return False


@every
def test_what_is_said_of_an_image_rests_on_the_labels_before_it_alone(name):
    learner = LEARNERS[name]
    params = init(learner)
    assert not peeks(learner, params)
    assert peeks(learner, params, known=lambda y: y)  # a label too early is noticed


def shares_of_right(learner, params, known=late, n=600):
    """The share of right answers at the first step, and at the last third, of easy streams."""
    x, y = streams(n).query
    said = host(learner.stream(params, x, known(y))).argmax(-1)
    right = said == host(y)
    return right[:, 0].mean(), right[:, 8:].mean()


@every
def test_the_first_answer_is_right_by_chance_and_so_are_all_without_labels(name):
    learner = LEARNERS[name]
    params = init(learner)
    # the share of 600 streams has a standard deviation of 0.019, that of 2400 answers 0.0096
    first, last = shares_of_right(learner, params)
    assert first == pytest.approx(1 / 3, abs=0.08)
    if name == "MemoryModule":  # which needs no training to find its way among these
        assert last > 0.8
    rng = np.random.default_rng(0)
    shuffled = lambda y: asarray(np.where(host(late(y)) < 0, -1, rng.integers(0, 3, y.shape)))
    first, last = shares_of_right(learner, params, shuffled)
    assert first == pytest.approx(1 / 3, abs=0.08) and last == pytest.approx(1 / 3, abs=0.05)


def test_of_a_memory_module_the_first_answer_is_one_of_equal_scores():
    said = host(MODULE.stream(init(MODULE), *streams().support))
    assert (said[:, 0] == said[:, :1, 0]).all()


def test_other_names_of_the_classes_rename_the_answers_of_a_memory_module():
    tasks, renamed, params = episodes(), np.array([2, 0, 1]), init(MODULE)
    y = asarray(renamed[host(tasks.support.y)])
    said = host(MODULE.predict(params, tasks.support, tasks.query.x))
    other = host(MODULE.predict(params, Batch(tasks.support.x, y), tasks.query.x))
    np.testing.assert_array_equal(other[..., renamed], said)


def test_other_names_of_the_classes_rename_the_answers_of_a_mann():
    """If its weights from and to the labels are renamed too: it has one for each label."""
    tasks, renamed, params = streams(), np.array([2, 0, 1]), init(MANN)
    said = host(MANN.stream(params, *tasks.support))
    other = {n: host(p).copy() for n, p in params.items()}
    rows = other["controller.input.weight"]
    rows[4 + renamed] = host(params["controller.input.weight"])[4:7]
    for part in ("weight", "bias"):
        other[f"output.{part}"][..., renamed] = host(params[f"output.{part}"])
    known = host(tasks.support.y)
    known = asarray(np.where(known < 0, -1, renamed[known]))
    again = MANN.stream({n: tm.tensor(p) for n, p in other.items()}, tasks.support.x, known)
    np.testing.assert_allclose(host(again)[..., renamed], said, rtol=1e-9, atol=1e-12)


@every
def test_a_query_image_sees_no_other_and_leaves_nothing_behind(name):
    learner, tasks = LEARNERS[name], episodes()
    params = init(learner)
    whole = host(learner.predict(params, tasks.support, tasks.query.x))
    for at in (0, 3):
        alone = host(learner.predict(params, tasks.support, tasks.query.x[:, [at]]))
        np.testing.assert_allclose(alone, whole[:, [at]], rtol=1e-9)


@every
def test_an_episode_is_a_stream_that_goes_on_for_one_image(name):
    learner, tasks = LEARNERS[name], episodes()
    params = init(learner)
    said = host(learner.predict(params, tasks.support, tasks.query.x))
    y = np.concatenate([tasks.support.y, tasks.query.y[:, :1]], 1)
    for at in range(tasks.query.x.shape[1]):
        x = np.concatenate([tasks.support.x, tasks.query.x[:, [at]]], 1)
        stream = host(learner.stream(params, x, late(y)))
        np.testing.assert_allclose(stream[:, -1], said[:, at], rtol=1e-9)


# MANN


def test_a_step_of_a_mann_by_hand():
    """Least recently used access, by one head, on a memory of three slots of two numbers."""
    learner = learners.MANN(nn.Sequential(), 1, 2, hidden=1, slots=3, width=2, heads=1)
    params = {
        n: tm.tensor(np.zeros(p.shape)) for n, p in learner.init(np.random.default_rng(0)).items()
    }
    # keys atanh of (0.6, 0.8) along (3, 4), vectors (0.5, -0.25), a gate of 3/4
    bias = np.concatenate([np.arctanh([0.6, 0.8]), np.arctanh([0.5, -0.25]), [np.log(3)]])
    params["heads.bias"] = tm.tensor(bias)
    memory = np.array([[[3.0, 4.0], [8.0, -6.0], [7.0, 7.0]]])
    state = learner.start(params, 1)._replace(
        memory=asarray(memory),
        read=asarray([[[0.5, 0.5, 0.0]]]),
        usage=asarray([[0.4, 0.3, 0.2]]),  # the third is the least used
    )
    new = learner.step(params, asarray(np.zeros((1, 3))), state)
    write = np.array([0.375, 0.375, 0.25])  # 3/4 of where it read, 1/4 at the least used
    expected = np.array([[3.0, 4.0], [8.0, -6.0], [0.0, 0.0]]) + write[:, None] * [0.5, -0.25]
    np.testing.assert_allclose(host(new.memory)[0], expected, rtol=1e-12)
    cosines = expected @ [0.6, 0.8] / np.linalg.norm(expected, axis=1)
    read = np.exp(cosines) / np.exp(cosines).sum()
    np.testing.assert_allclose(host(new.read)[0, 0], read, rtol=1e-9)
    np.testing.assert_allclose(host(new.r)[0], read @ expected, rtol=1e-9)
    usage = 0.95 * np.array([0.4, 0.3, 0.2]) + read + write
    np.testing.assert_allclose(host(new.usage)[0], usage, rtol=1e-9)


def test_the_attention_of_a_mann_by_hand():
    """A key of (1, 0) beside slots along it, across it and against it: e, 1, 1/e in proportion."""
    learner = learners.MANN(nn.Sequential(), 1, 2, hidden=1, slots=3, width=2, heads=1)
    params = {
        n: tm.tensor(np.zeros(p.shape)) for n, p in learner.init(np.random.default_rng(0)).items()
    }
    params["heads.bias"] = tm.tensor([np.arctanh(0.5), 0, 0, 0, 0])
    memory = asarray(np.array([[[2.0, 0.0], [0.0, 5.0], [-3.0, 0.0]]]))
    state = learner.start(params, 1)._replace(
        memory=memory, usage=asarray([[1.0, 2.0, 3.0]]), read=asarray([[[0.0, 0.0, 0.0]]])
    )
    new = learner.step(params, asarray(np.zeros((1, 3))), state)
    cleared = np.exp([0, 0, -1])  # the first was the least used: it is all zeros now
    np.testing.assert_allclose(host(new.read)[0, 0], cleared / cleared.sum(), rtol=1e-9)
    state = state._replace(usage=asarray([[2.0, 1.0, 3.0]]))
    new = learner.step(params, asarray(np.zeros((1, 3))), state)
    e = np.exp([1, 0, -1])
    np.testing.assert_allclose(host(new.read)[0, 0], e / e.sum(), rtol=1e-9)


def torch_mann(torch, learner, params, x, y):
    """The mean cross-entropy of streams, one after another, in PyTorch by the paper's equations."""
    n, k, size = learner.heads, learner.width, learner.hidden
    losses = []
    for images, labels in zip(x, y):
        h = c = torch.zeros(size)
        r = torch.zeros(n * k)
        memory = torch.full((learner.slots, k), 1e-6)
        first = torch.zeros(learner.slots)
        first[0] = 1
        read, usage = [first] * n, first
        for t, image in enumerate(images):
            previous = torch.zeros(learner.n_way)
            if t:
                previous[labels[t - 1]] = 1
            features = image @ params["body.weight"] + params["body.bias"]
            given = torch.cat([features, previous, r])
            gates = given @ params["controller.input.weight"] + params["controller.bias"]
            i, f, o, g = (gates + h @ params["controller.hidden.weight"]).split(size)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            heads = h @ params["heads.weight"] + params["heads.bias"]
            keys, vectors, gate = heads.split([n * k, n * k, n])
            least = torch.zeros(learner.slots)
            least[int(usage.argmin())] = 1
            memory = memory * (1 - least)[:, None]
            writes = []
            for j, vector in enumerate(torch.tanh(vectors).split(k)):
                s = torch.sigmoid(gate[j])
                writes.append(s * read[j] + (1 - s) * least)
                memory = memory + torch.outer(writes[-1], vector)
            lengths = ((memory**2).sum(1) + 1e-12).sqrt()
            read = [
                torch.softmax(memory @ key / lengths / (key @ key + 1e-12).sqrt(), 0)
                for key in torch.tanh(keys).split(k)
            ]
            r = torch.cat([w @ memory for w in read])
            usage = 0.95 * usage + (sum(read) + sum(writes)).detach()
            logits = torch.cat([h, r]) @ params["output.weight"] + params["output.bias"]
            losses.append(torch.nn.functional.cross_entropy(logits, labels[t]))
    return sum(losses) / len(losses)


@pytest.mark.numpy_only
def test_the_loss_of_a_mann_and_all_its_gradients_are_pytorchs():
    torch = pytest.importorskip("torch")
    tasks, params = streams(), init(MANN)
    theirs = {n: torch.tensor(p.numpy(), requires_grad=True) for n, p in params.items()}
    x, y = (torch.tensor(host(a)) for a in tasks.query)
    torch.set_default_dtype(torch.float64)
    try:
        loss, value = torch_mann(torch, MANN, theirs, x, y), MANN.objective(params, tasks)
        loss.backward()
    finally:
        torch.set_default_dtype(torch.float32)
    assert value.item() == pytest.approx(loss.item(), rel=1e-9)
    for name, g in tm.grad(value, params).items():
        np.testing.assert_allclose(g.numpy(), theirs[name].grad.numpy(), rtol=1e-9, atol=1e-9)


# Memory module


def memory_of(keys, values, ages):
    return Memory(*[asarray(np.array([part])) for part in (keys, values, ages)])


HELD = memory_of([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], [7, 8, 9], [3, 5, 4])


@pytest.mark.parametrize(
    ("memory", "q", "v", "keys", "values", "ages"),
    [
        # right: the nearest key has the label, and moves half-way: (1.8, 0.6) at length 1
        (HELD, [0.8, 0.6], 7, [[0.9**0.5, 0.1**0.5], [0, 1], [-1, 0]], [7, 8, 9], [0, 6, 5]),
        # wrong, and the memory is full: the oldest pair is lost, though its label was right
        (HELD, [0.8, 0.6], 8, [[1, 0], [0.8, 0.6], [-1, 0]], [7, 8, 9], [4, 0, 5]),
        (HELD, [-0.8, 0.6], 2, [[1, 0], [-0.8, 0.6], [-1, 0]], [7, 2, 9], [4, 0, 5]),
        # wrong, and a slot was never written to: it is taken, though a key is as near as it
        (
            memory_of([[1.0, 0.0], [0.0, 0.0]], [7, -1], [0, 1]),
            [0.0, 1.0],
            7,
            [[0.5**0.5, 0.5**0.5], [0, 0]],
            [7, -1],
            [0, 2],
        ),
        (
            memory_of([[1.0, 0.0], [0.0, 0.0]], [7, -1], [0, 1]),
            [-0.6, 0.8],
            5,
            [[1, 0], [-0.6, 0.8]],
            [7, 5],
            [1, 0],
        ),
        # empty
        (
            memory_of([[0.0, 0.0]] * 2, [-1, -1], [0, 0]),
            [0.6, 0.8],
            4,
            [[0.6, 0.8], [0, 0]],
            [4, -1],
            [0, 1],
        ),
    ],
)
def test_what_the_memory_holds_after_a_right_and_a_wrong_answer(memory, q, v, keys, values, ages):
    before = [host(part).copy() for part in memory]
    after = memory.write(asarray(np.array([q])), asarray(np.array([v])))
    np.testing.assert_allclose(host(after.keys)[0], keys, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(host(after.values)[0], values)
    np.testing.assert_array_equal(host(after.ages)[0], ages)
    for part, old in zip(memory, before):  # a memory is not changed in place
        np.testing.assert_array_equal(host(part), old)


def test_a_memory_fills_in_order_and_then_loses_the_oldest():
    q = np.eye(4)[None]
    *_, full = memories(asarray(q), late(asarray(np.array([[0, 1, 2, 3]]))), slots=2)
    np.testing.assert_array_equal(host(full.values), [[2, 1]])  # three were told, the first is lost
    *_, roomy = memories(asarray(q), late(asarray(np.array([[0, 1, 2, 3]]))), slots=8192)
    np.testing.assert_array_equal(
        host(roomy.values), [[0, 1, 2, -1]]
    )  # no slot that cannot be used


def test_the_scores_of_a_memory_are_those_of_the_nearest_key_of_each_class():
    memory = memory_of([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0, 0]], [1, 0, 1, -1], [0] * 4)
    said = host(memory.scores(asarray(np.array([[[0.8, 0.6], [-1.0, 0.0]]])), 3))
    np.testing.assert_allclose(said, [[[0.6, 0.96, -2], [0, -0.6, -2]]], rtol=1e-12)


def test_the_margin_loss_by_hand():
    """Two classes a step apart, an identity for the network, and no class that is new but two."""
    learner = learners.MemoryModule(nn.Sequential(), width=2, margin=0.1)
    params = {"query.weight": tm.tensor(np.eye(2), requires_grad=True)}
    x = np.array([[[2.0, 0.0], [0.0, 3.0], [3.0, 4.0], [4.0, 3.0]]])
    y = np.array([[0, 1, 0, 1]])
    stream = Batch(asarray(x), asarray(y))
    # step 0: nothing is held. 1: (1, 0) is wrong, nothing right. 2: right (1, 0), wrong (0, 1);
    # nearest is the wrong one, so (0.6, 0.8) is new. 3: right (0, 1), wrong (1, 0) or (0.6, 0.8)
    differences = np.array([0, 0, 0.8 - 0.6, 0.96 - 0.6])
    loss = np.maximum(differences + 0.1, 0).mean() - 0.1
    value = learner.objective(params, Task(stream, stream))
    assert value.item() == pytest.approx(loss, rel=1e-9)


def torch_memory_module(torch, learner, params, x, y, kept=1):
    """The loss of streams, one after another, in PyTorch: its memory is a list of pairs."""
    losses = []
    for images, labels in zip(x, y):
        held = []  # [key, value, when it was last written]
        embedding = kept * (images @ params["body.weight"] + params["body.bias"])
        queries = torch.nn.functional.normalize(embedding @ params["query.weight"], dim=-1)
        for t, (q, label) in enumerate(zip(queries, labels.tolist())):
            similar = {True: [q.new_zeros(())], False: [q.new_zeros(())]}
            for right in similar:
                found = [q @ key for key, value, _ in held if (value == label) is right]
                if found:
                    similar[right] = found
            difference = max(similar[False]) - max(similar[True])
            losses.append(torch.relu(difference + learner.margin) - learner.margin)
            with torch.no_grad():
                nearest = max(held, key=lambda pair: float(q @ pair[0]), default=None)
                if nearest and nearest[1] == label:
                    nearest[0] = torch.nn.functional.normalize(nearest[0] + q, dim=-1)
                    nearest[2] = t
                else:
                    if len(held) == learner.slots:
                        held.pop(min(range(learner.slots), key=lambda i: held[i][2]))
                    held.append([q.detach().clone(), label, t])
    return sum(losses) / len(losses)


@pytest.mark.numpy_only
@pytest.mark.parametrize("slots", [4, 100])
@pytest.mark.parametrize("dropped", [False, True])
def test_the_loss_of_a_memory_module_and_all_its_gradients_are_pytorchs(slots, dropped):
    torch = pytest.importorskip("torch")
    # so wide that dropout leaves something of every embedding
    learner = replace(MODULE, slots=slots, width=16, body=nn.Sequential(nn.Linear(3, 16)))
    tasks, kept = streams(n=1, views=8), 1
    params = {n: tm.tensor(p.numpy(), requires_grad=True) for n, p in init(learner).items()}
    if dropped:
        tasks = learner.prepare(tasks, np.random.default_rng(0), 1)
        kept = torch.tensor(tasks.extra["kept"][0].astype(float))
        tasks = Prepared(tasks.support, tasks.query, {"kept": tasks.extra["kept"].astype(float)})
    theirs = {
        n.replace("linear1", "body"): torch.tensor(p.numpy(), requires_grad=True)
        for n, p in params.items()
    }
    x, y = (torch.tensor(host(a)) for a in tasks.query)
    loss, value = (
        torch_memory_module(torch, learner, theirs, x, y, kept),
        learner.objective(params, tasks),
    )
    loss.backward()
    assert value.item() == pytest.approx(loss.item(), rel=1e-9)
    for name, g in tm.grad(value, params).items():
        expected = theirs[name.replace("linear1", "body")].grad.numpy()
        np.testing.assert_allclose(g.numpy(), expected, rtol=1e-9, atol=1e-9)


def test_dropout_is_drawn_with_the_tasks_and_goes_with_its_task():
    tasks = streams(n=6)
    prepared = MODULE.prepare(tasks, np.random.default_rng(3), 1)
    kept = prepared.extra["kept"]
    assert kept.shape == (6, 12, 4) and set(np.unique(kept)) == {0, np.float32(1 / 0.3)}
    again = MODULE.prepare(tasks, np.random.default_rng(3), 2).extra["kept"]
    np.testing.assert_array_equal(kept, again)
    params = init(MODULE)
    prepared = Prepared(tasks.support, tasks.query, {"kept": asarray(kept.astype(float))})
    whole, gradient = gradient_by_chunks(MODULE.objective, params, prepared)
    parts, others = gradient_by_chunks(MODULE.objective, params, prepared, chunk=4)
    assert float(whole) == pytest.approx(float(parts), rel=1e-12)
    assert float(whole) != pytest.approx(MODULE.objective(params, tasks).item(), rel=1e-3)
    for name, g in gradient.items():
        np.testing.assert_allclose(host(others[name]), host(g), rtol=1e-9, atol=1e-12)
