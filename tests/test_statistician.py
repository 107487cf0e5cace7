"""The neural statistician: by hand, against PyTorch, and what it may and may not see."""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

import tinymaml as tm
from tinymaml import learners, nn
from tinymaml.engine.structure import map_leaves
from tinymaml.experiments import EXPERIMENTS
from tinymaml.learners.statistician import EPOCH, kl
from tinymaml.tasks import Batch, Task

if find_spec("torch"):
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(1)

needs_torch = pytest.mark.skipif(not find_spec("torch"), reason="PyTorch is not installed")

SIZES = {"features": 64, "context": 3, "latent": 2, "hidden": 4}
LEARNER = learners.NeuralStatistician(nn.conv9(1), nn.deconv9(4, 1), **SIZES)


def images(n_tasks=2, n_way=3, k_shot=2, n_query=1, seed=0):
    """Tasks of random images, whose classes have means of their own."""
    rng, batches = np.random.default_rng(seed), []
    means = rng.uniform(size=(n_tasks, n_way, 28, 28, 1))
    for k in (k_shot, n_query):
        y = np.stack([rng.permutation(np.arange(n_way * k) % n_way) for _ in range(n_tasks)])
        x = (rng.uniform(size=(*y.shape, 28, 28, 1)) + means[np.arange(n_tasks)[:, None], y]) / 2
        batches.append(Batch(x, y))
    return Task(*batches)


def init(learner, seed=1):
    """Initial parameters in float64, none of which is at zero."""
    rng = np.random.default_rng(seed)
    params = learner.init(rng)
    return {
        n: tm.tensor(p.numpy() + rng.normal(0, 0.1, p.shape), requires_grad=True)
        for n, p in params.items()
    }


def test_the_divergence_of_two_gaussians_by_hand():
    """KL(N(1, 4) || N(3, 2)) = (2 + 2 - 1 + ln 2 - ln 4) / 2, and 0 of equal ones."""
    q = np.array([1.0, 5.0]), np.log([4.0, 0.5])
    p = np.array([3.0, 5.0]), np.log([2.0, 0.5])
    assert kl(q, p) == pytest.approx((3 - np.log(2)) / 2, rel=1e-14)
    assert kl(p, q) == pytest.approx((0.5 + 1 - 1 + np.log(2)) / 2, rel=1e-14)
    assert kl(q, q) == 0


def test_the_divergence_is_the_integral_that_defines_it():
    x = np.linspace(-40, 40, 200_001)

    def density(mean, variance):
        return np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)

    for a, b in (((0.3, 1.7), (-1.1, 2.9)), ((2.0, 3.0), (1.0, 2.0))):
        q, p = density(*a), density(*b)
        expected = np.sum(q * np.log(q / p)) * (x[1] - x[0])
        found = kl(*[(np.array([m]), np.log([v])) for m, v in (a, b)])
        assert found == pytest.approx(expected, rel=1e-9)


# Against PyTorch: the networks layer by layer, and the bound set by set and image by image


def conv(own, name, x, pad, stride=1):
    weight, bias = own[f"{name}.weight"].permute(3, 2, 0, 1).contiguous(), own[f"{name}.bias"]
    return F.conv2d(F.pad(x, pad), weight, bias, stride)


def norm(own, name, x):
    gamma, beta = own[f"{name}.gamma"], own[f"{name}.beta"]
    return F.batch_norm(x, None, None, gamma, beta, training=True, eps=1e-5)


def dense(own, name, x):
    return x @ own[f"{name}.weight"] + own[f"{name}.bias"]


class Reference:
    """The model of one task in PyTorch, from parameters by their names."""

    def __init__(self, params):
        self.params = params

    def own(self, part):
        start = f"{part}."
        return {n[len(start) :]: p for n, p in self.params.items() if n.startswith(start)}

    def encode(self, x):
        own, x = self.own("encoder"), x.movedim(-1, 1)
        for i in range(1, 10):
            # 28 and 14 pixels are padded below alone where the stride is 2, 7 on both sides
            pad = (0, 1, 0, 1) if i in (3, 6) else (1, 1, 1, 1)
            x = conv(own, f"conv2d{i}", x, pad, 2 if i % 3 == 0 else 1)
            x = F.elu(norm(own, f"batchnorm{i}", x))
        return x.movedim(1, -1).flatten(1)

    def decode(self, z, c):
        x = F.elu(dense(self.own("decoder"), "linear1", torch.cat([z, c], -1)))
        own, count = self.own("decoder.sequential1"), 1
        x = dense(own, "linear1", x).reshape(len(x), 4, 4, -1).movedim(-1, 1)
        x = F.elu(norm(own, "batchnorm1", x))
        for i in (1, 2, 3):
            for j in (2 * i - 1, 2 * i):
                x = conv(own, f"conv2d{j}", x, (0,) * 4 if j == 6 else (1,) * 4)
                count += 1
                x = F.elu(norm(own, f"batchnorm{count}", x))
            weight = own[f"convtranspose2d{i}.weight"].permute(3, 2, 0, 1).contiguous()
            x = F.conv_transpose2d(x, weight, own[f"convtranspose2d{i}.bias"], 2)
            count += 1
            x = F.elu(norm(own, f"batchnorm{count}", x))
        return conv(own, "conv2d7", x, (0,) * 4).movedim(1, -1)

    def statistic(self, features):
        own = self.own("statistic")
        return F.elu(norm(own, "batchnorm1", dense(own, "linear1", features)))

    def context(self, vectors):
        """q(c | D) of one set, whose images have these statistics."""
        own = self.own("context")
        x = torch.cat([vectors.mean(0), torch.tensor([1 / len(vectors)])])
        for name in ("linear1", "linear2"):
            x = F.elu(dense(own, name, x))
        return gaussian(dense(own, "linear3", x))

    def latent(self, part, x):
        own = self.own(part)
        start = F.elu(dense(own, "linear1", x))
        x = F.elu(dense(own, "residual1.linear1", start))
        x = F.elu(dense(own, "residual1.linear2", x))
        x = F.elu(start + dense(own, "residual1.linear3", x))
        return gaussian(dense(own, "linear2", x))

    def objective(self, x, y, extra):
        features = self.encode(x)
        vectors = self.statistic(features)
        standard = torch.distributions.Normal(torch.zeros(()), torch.ones(()))
        divergence, c = 0, torch.zeros(len(x), SIZES["context"])
        for k in range(int(y.max()) + 1):
            q_c = self.context(vectors[(y == k) & extra["counts"]])
            divergence = divergence + torch.distributions.kl_divergence(q_c, standard).sum()
            c[y == k] = q_c.mean + q_c.stddev * extra["c"][k]
        q_z = self.latent("inference", torch.cat([features, c], -1))
        p_z = self.latent("prior", c)
        divergence = divergence + torch.distributions.kl_divergence(q_z, p_z).sum()
        logits = self.decode(q_z.mean + q_z.stddev * extra["z"], c)
        log_p = -F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        a = 1 + extra["a"]
        return -(a * log_p - divergence / a) / len(x)

    def predict(self, support, x):
        sets = self.statistic(self.encode(support.x))
        contexts = [self.context(sets[support.y == k]) for k in range(int(support.y.max()) + 1)]
        rows = []
        for vector in self.statistic(self.encode(x)):
            q = self.context(vector[None])
            divergences = [torch.distributions.kl_divergence(q, p).sum() for p in contexts]
            rows.append([-d.item() for d in divergences])
        return torch.tensor(rows)


def gaussian(x):
    mean, log_variance = x.chunk(2, -1)
    return torch.distributions.Normal(mean, (log_variance / 2).exp())


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def torch_params(params):
    return {n: torch.tensor(p.numpy(), requires_grad=True) for n, p in params.items()}


@needs_torch
@pytest.mark.parametrize("step", [1, EPOCH + 1])
def test_loss_and_all_gradients_against_torch(double, step):
    tasks, params = images(n_query=2), init(LEARNER)
    prepared = LEARNER.prepare(tasks, np.random.default_rng(5), step)
    assert not prepared.extra["counts"].all()  # some images are left out
    value = LEARNER.objective(params, tm_arrays(prepared))
    gradient = tm.grad(value, params)
    theirs, total = torch_params(params), 0
    for t in range(2):
        extra = {n: torch.tensor(a[t]) for n, a in prepared.extra.items()}
        x, y = (np.concatenate([s[t], q[t]]) for s, q in zip(tasks.support, tasks.query))
        total = total + Reference(theirs).objective(torch.tensor(x), torch.tensor(y), extra) / 2
    total.backward()
    assert value.item() == pytest.approx(total.item(), rel=1e-12)
    for name, p in theirs.items():
        np.testing.assert_allclose(gradient[name].numpy(), p.grad.numpy(), rtol=1e-9, atol=1e-9)


@needs_torch
def test_predictions_against_torch(double):
    tasks, params = images(n_query=2), init(LEARNER)
    said = LEARNER.predict(params, *tm_arrays((tasks.support, tasks.query.x))).numpy()
    for t in range(2):
        support = Batch(*[torch.tensor(a[t]) for a in tasks.support])
        expected = Reference(torch_params(params)).predict(support, torch.tensor(tasks.query.x[t]))
        np.testing.assert_allclose(said[t], expected.numpy(), rtol=1e-9, atol=1e-9)


@needs_torch
def test_samples_are_decoded_from_the_prior_of_the_contexts_mean(double):
    support, params = images().support, init(LEARNER)
    noise = np.random.default_rng(3).standard_normal((2, 3, 4, 2))
    made = LEARNER.samples(params, *tm_arrays((support, noise))).numpy()
    reference = Reference(torch_params(params))
    assert made.shape == (2, 3 * 4, 28, 28, 1)
    for t in range(2):
        x, y = (torch.tensor(a[t]) for a in support)
        vectors = reference.statistic(reference.encode(x))
        c = torch.stack([reference.context(vectors[y == k]).mean for k in range(3)])
        c = c.repeat_interleave(4, 0)
        p_z = reference.latent("prior", c)
        z = p_z.mean + p_z.stddev * torch.tensor(noise[t].reshape(12, 2))
        expected = torch.sigmoid(reference.decode(z, c)).detach().numpy()
        np.testing.assert_allclose(made[t], expected, rtol=1e-9, atol=1e-9)


def tm_arrays(structure):
    """Arrays of the backend."""
    return map_leaves(lambda a: tm.tensor(a).data, structure)


# What it sees

POINTS = learners.NeuralStatistician(
    nn.Linear(2, 5), nn.Linear(8, 2), features=5, context=3, latent=2, hidden=8
)


def points(n_tasks=2, n_way=3, k_shot=3, n_query=2, seed=0):
    """Tasks of points of the unit square, in a cluster for each class."""
    rng, batches = np.random.default_rng(seed), []
    middles = rng.uniform(size=(n_tasks, n_way, 2))
    for k in (k_shot, n_query):
        y = np.stack([rng.permutation(np.arange(n_way * k) % n_way) for _ in range(n_tasks)])
        x = middles[np.arange(n_tasks)[:, None], y] + rng.normal(0, 0.02, (*y.shape, 2))
        batches.append(Batch(x.astype(np.float32), y))
    return Task(*batches)


def test_labels_permuted_permute_the_predictions():
    tasks, params, order = points(), init(POINTS), np.array([2, 0, 1])
    said = POINTS.predict(params, *tm_arrays((tasks.support, tasks.query.x))).numpy()
    renamed = Batch(tasks.support.x, order[tasks.support.y])
    again = POINTS.predict(params, *tm_arrays((renamed, tasks.query.x))).numpy()
    rounding = 1e-5 if tm.get_backend() == "cupy" else 1e-6  # of sums over sets, in their order
    np.testing.assert_allclose(again[..., order], said, rtol=rounding)


@pytest.mark.parametrize("inductive", [False, True])
def test_by_the_statistics_of_the_support_no_query_example_sees_another(inductive):
    learner, tasks = replace(LEARNER, inductive=inductive), images(n_query=2)
    params = init(learner)
    support, x = tm_arrays((tasks.support, tasks.query.x))
    whole = learner.predict(params, support, x).numpy()
    alone = learner.predict(params, support, x[:, :1]).numpy()
    assert np.allclose(alone, whole[:, :1], rtol=1e-9) == inductive


def test_the_bound_depends_on_which_images_are_together_and_not_on_their_labels():
    tasks, params, order = points(), init(POINTS), np.array([2, 0, 1])
    renamed = Task(*[Batch(x, order[y]) for x, y in tasks])
    mixed = Task(*[Batch(x, np.roll(y, 1, axis=1)) for x, y in tasks])
    value, same, other = (
        POINTS.objective(params, tm_arrays(t)).item() for t in (tasks, renamed, mixed)
    )
    assert same == pytest.approx(value, rel=1e-6) and abs(other - value) > 1e-3


def test_an_image_that_does_not_count_is_not_in_the_context_of_its_set():
    """The context is that of the smaller set; the image itself is still reconstructed."""
    tasks = points(n_tasks=1, n_way=2, k_shot=3)
    params, members = init(POINTS), tasks.support.y[:, None] == np.arange(2)[:, None]
    features = tm.tensor(np.random.default_rng(0).normal(size=(1, 6, 5)))
    # without its norm, the statistic of an image does not depend on those beside it
    params |= {
        f"statistic.batchnorm1.{n}": tm.tensor(np.full(8, v))
        for n, v in {"mean": 0.2, "var": 1.5}.items()
    }
    first = int(np.flatnonzero(tasks.support.y[0] == 0)[0])
    counts = np.arange(6) != first
    some = POINTS._posterior(params, features, tm_arrays(members & counts))
    rest = POINTS._posterior(params, features[:, counts], tm_arrays(members[..., counts]))
    every = POINTS._posterior(params, features, tm_arrays(members))
    for a, b, c in zip(some, rest, every):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10)
        assert not np.allclose(a.numpy()[:, 0], c.numpy()[:, 0])
        np.testing.assert_allclose(a.numpy()[:, 1], c.numpy()[:, 1], rtol=1e-10)


def test_sets_of_all_sizes_are_drawn_alike_and_none_is_empty():
    tasks = points(n_tasks=300, n_way=4, k_shot=1, n_query=4)
    prepared = POINTS.prepare(tasks, np.random.default_rng(0), 1)
    y = np.concatenate([tasks.support.y, tasks.query.y], axis=1)
    counts = prepared.extra["counts"]
    sizes = np.stack([(counts & (y == k)).sum(1) for k in range(4)], axis=1)
    share = np.bincount(sizes.ravel(), minlength=6) / sizes.size
    assert share[0] == 0 and np.abs(share[1:] - 0.2).max() < 0.05
    # every place in a set is as likely to count: 3 of 5 on average
    assert np.abs(counts.mean(0) - 0.6).max() < 0.1


def test_what_a_step_draws_depends_on_its_generator_and_a_halves_with_each_epoch():
    tasks = points()
    one, same, other = (
        POINTS.prepare(tasks, np.random.default_rng(seed), 1).extra for seed in (0, 0, 1)
    )
    for name in ("c", "z"):
        np.testing.assert_array_equal(one[name], same[name])
        assert one[name].dtype == np.float32 and (one[name] != other[name]).all()
    steps = (1, EPOCH - 1, EPOCH, 2 * EPOCH, 3 * EPOCH + 1)
    drawn = [POINTS.prepare(tasks, np.random.default_rng(0), step).extra["a"] for step in steps]
    assert [a.tolist() for a in drawn] == [[share] * 2 for share in (1, 1, 0.5, 0.25, 0.125)]


def test_it_learns_to_tell_clusters_that_it_has_not_seen():
    """Sets of points: from a third of right answers to nearly all."""
    learner = replace(POINTS, hidden=16, decoder=nn.Linear(16, 2))
    params = learner.init(np.random.default_rng(0))
    optimizer = tm.optim.Adam(0.01)
    state, test = optimizer.init(params), points(n_tasks=50, seed=1)

    def accuracy():
        said = learner.predict(params, *tm_arrays((test.support, test.query.x))).numpy()
        return (said.argmax(-1) == test.query.y).mean()

    for step in range(1, 201):
        tasks = points(n_tasks=1, n_way=16, k_shot=1, n_query=4, seed=100 + step)
        tasks = learner.prepare(tasks, np.random.default_rng(step), step + 5 * EPOCH)
        gradient = tm.grad(learner.objective(params, tm_arrays(tasks)), params)
        params, state = optimizer.update(params, gradient, state)
    assert accuracy() > 0.85


def test_the_preset_makes_sets_of_five_and_tests_all_settings_of_the_table(tmp_path):
    one = EXPERIMENTS["omniglot-statistician"].replace(filters=1, context=3, hidden=4)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 20, 28, 28, 1), np.uint8)
    splits = dict.fromkeys(("train", "val", "test"), pixels)
    one = replace(one, problem=one.problem.with_images(splits))
    tasks, again = one.training_tasks(3), one.training_tasks(3)
    assert [batch.x.shape[1] for batch in tasks[:2]] == [32, 4 * 32]
    np.testing.assert_array_equal(tasks.extra["z"], again.extra["z"])
    assert not np.array_equal(tasks.extra["z"], one.training_tasks(4).extra["z"])
    params = one.init()
    _, gradient = one.gradient(params, tasks)
    assert {g.dtype for g in gradient.values()} == {np.dtype(np.float32)}
    results = one.test(params, 2)
    found = [(row["setting"], row["batch_norm"]) for row in results["rows"][:8]]
    settings = [f"{n}-way {k}-shot" for k in (1, 5) for n in (5, 20)]
    assert found == [(s, of) for s in settings for of in ("query batch", "support batch")]
    assert "sets of 1 to 5 images" in results["protocol"] and len(results["curves"]) == 4
    (path,) = one.method.figures(tmp_path, one.problem, params, one.schedule.rng)
    assert path.read_bytes().startswith(b"\x89PNG")
