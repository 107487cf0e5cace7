"""Algorithm 3 by parts: environments, baseline, advantages, surrogates, TRPO, PPO."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

import tinymaml as tm
from tinymaml import func, rl
from tinymaml.engine.tensor import raw
from tinymaml.errors import UserError
from tinymaml.rl import surrogates
from tinymaml.rl.advantages import advantages, discounted_sums, gae
from tinymaml.rl.baseline import features, fitted_values
from tinymaml.rl.policies import entropy, kl_divergence, log_likelihood
from tinymaml.rl.trpo import conjugate_gradient, dot

pytestmark = pytest.mark.numpy_only


# The policy


def test_log_likelihood_and_entropy_are_those_of_scipy():
    """scipy.stats.multivariate_normal(mean, diag(std**2)): logpdf and entropy."""
    mean, log_std = np.array([[0.0, 0.5, 1.5]]), np.array([0.0, -0.7, 0.4])
    found = log_likelihood(mean, log_std, np.array([[0.3, -1.2, 2.0]]))
    np.testing.assert_allclose(found, [-8.417745672219226], rtol=1e-12)
    np.testing.assert_allclose(entropy(log_std), 3.9568155996140186, rtol=1e-12)


def test_the_divergence_is_the_integral_of_the_difference_of_log_likelihoods():
    x = np.linspace(-12, 12, 20_001)[:, None]
    old, new = (np.array([0.3]), np.array([-0.2])), (np.array([1.1]), np.array([0.4]))
    p, q = (log_likelihood(np.broadcast_to(m, x.shape), s, x) for m, s in (old, new))
    integral = np.trapezoid(np.exp(p) * (p - q), x[:, 0])
    found = kl_divergence(old[0][None], old[1], new[0][None], new[1])
    np.testing.assert_allclose(found, [integral], rtol=1e-8)


def test_actions_of_two_parts_count_the_sum_of_their_log_likelihoods():
    """A well-known library takes their mean, which divides the step size by the number of parts."""
    one = log_likelihood(np.zeros((1, 1)), np.zeros(1), np.ones((1, 1)))
    two = log_likelihood(np.zeros((1, 2)), np.zeros(2), np.ones((1, 2)))
    np.testing.assert_allclose(two, 2 * one, rtol=1e-15)


# Environments and rollouts


def test_a_walk_by_hand():
    """Steps of at most 0.1 along each axis; the end is a square of 0.01 round the goal."""
    env = rl.Navigation2D(np.array([[0.25, 0.0], [0.5, 0.5]]), rollouts=1)
    position, info = env.reset([None, None])
    assert position.shape == (2, 1, 2) and not position.any() and info == {}
    position, reward, terminated, truncated, _ = env.step(np.array([[[1.0, 0.0]], [[7.0, -0.5]]]))
    np.testing.assert_allclose(position[:, 0], [[0.1, 0], [0.1, -0.05]])
    np.testing.assert_allclose(reward[:, 0], [-0.15, -np.hypot(0.4, 0.55)])
    assert not terminated.any() and not truncated
    position, reward, terminated, truncated, _ = env.step(np.array([[[1.45, 0.09]], [[0.0, 0.0]]]))
    assert not terminated.any()  # 0.05 away
    _, reward, terminated, _, _ = env.step(np.array([[[0.45, -0.09]], [[0.0, 0.0]]]))
    assert terminated[:, 0].tolist() == [True, False]
    np.testing.assert_allclose(reward[0, 0], -0.005)


def test_plain_distance_and_not_its_square_gives_the_returns_of_the_paper():
    """A point that stays at 0 gets -38 in the mean over goals; before adaptation MAML has -40."""
    goals = rl.Navigation2D.sample_tasks(np.random.default_rng(0), 20_000)
    assert abs(goals).max() <= 0.5
    means = []
    for squared in (False, True):
        env = rl.Navigation2D(goals, 1, squared)
        env.reset([])
        means.append(100 * env.step(np.zeros((20_000, 1, 2)))[1].mean())
    plain, squared = means
    assert -38.6 < plain < -38.0 and -16.9 < squared < -16.5


class Still:
    """An environment that does nothing, and ends one rollout after its second step."""

    observation_size, action_size, horizon = 2, 1, 4
    spoilt = None

    def __init__(self, tasks, rollouts):
        self.shape, self.time = (len(tasks), rollouts), 0

    def reset(self, rngs):
        return np.zeros((*self.shape, 2)), {}

    def step(self, actions):
        self.time += 1
        seen, reward = np.zeros((*self.shape, 2)), np.ones(self.shape)
        if self.spoilt:
            seen, reward = self.spoilt(seen, reward)
        ended = np.zeros(self.shape, bool)
        ended[0, 0] = self.time == 2
        return seen, reward, ended, self.time == self.horizon, {}


def sampled(environment, n_tasks=2, rollouts=3, seed=0):
    policy = rl.GaussianPolicy(environment.observation_size, environment.action_size, (4,))
    theta = tm.maml.per_task(policy.init(np.random.default_rng(seed)), n_tasks)
    rngs = [np.random.default_rng([seed, i]) for i in range(n_tasks)]
    return rl.sample(policy, theta, environment, np.zeros((n_tasks, 2)), rollouts, rngs)


def test_what_comes_after_the_end_of_a_rollout_does_not_count():
    found = sampled(Still)
    assert found.alive[0, 0].tolist() == found.rewards[0, 0].tolist() == [1, 1, 0, 0]
    assert found.alive.sum() == 22
    np.testing.assert_allclose(found.returns, [10 / 3, 4])
    x, y = surrogates.batch(found)
    np.testing.assert_allclose(y.weight[0, :4], [0.1, 0.1, 0, 0])
    assert not y.advantages[0, 2:4].any()
    policy = rl.GaussianPolicy(2, 1, (4,))
    theta = tm.maml.per_task(policy.init(np.random.default_rng(0)), 2)
    changed = y._replace(actions=y.actions.copy())
    changed.actions[0, 2:4] = 9.0
    for loss in surrogates.INNER.values():
        ours, other = (
            tm.grad(loss(policy, theta, x, steps).sum(), theta) for steps in (y, changed)
        )
        for name, g in ours.items():
            np.testing.assert_allclose(g.numpy(), other[name].numpy(), atol=1e-7)


def test_a_task_acts_the_same_whatever_is_beside_it():
    whole = rl.MAML(rl.GaussianPolicy(2, 2, (8,)), rl.Navigation2D, rollouts=3, chunk=4)
    theta = whole.policy.init(np.random.default_rng(0))
    goals = rl.Navigation2D.sample_tasks(np.random.default_rng(1), 4)
    rngs = lambda *key: np.random.default_rng(key)
    together, apart = (
        np.concatenate([c.returns for c in learner.experience(theta, goals, rngs)])
        for learner in (whole, replace(whole, chunk=1))
    )
    np.testing.assert_allclose(together, apart, rtol=1e-5)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            lambda s, r: (s[..., :1], r),
            r"observations of shape \(2, 3, 1\) at step 1; .* \(2, 3, 2",
        ),
        (lambda s, r: (s, r[:1]), r"rewards of shape \(1, 3\) at step 0"),
        (lambda s, r: (s + np.inf, r), "observations that are not finite at step 1"),
        (lambda s, r: (s, r * np.nan), "rewards that are not finite at step 0"),
    ],
)
def test_an_environment_that_does_not_fit_is_named(spoil, sentence):
    with pytest.raises(UserError, match=sentence):
        sampled(type("Spoilt", (Still,), {"spoilt": staticmethod(spoil)}))


def test_a_policy_that_diverged_is_named():
    policy = rl.GaussianPolicy(2, 1, (4,))
    theta = policy.init(np.random.default_rng(0))
    theta |= {"log_std": tm.tensor(np.full(1, np.inf, np.float32))}
    theta = tm.maml.per_task(theta, 1)
    with pytest.raises(FloatingPointError, match="actions are not finite at step 0"):
        rl.sample(policy, theta, Still, np.zeros((1, 2)), 1, [np.random.default_rng(0)])


# Baseline and advantages


def test_three_steps_by_hand():
    rewards, values = np.array([1.0, 0.0, 2.0]), np.array([0.5, 1.0, -1.0])
    np.testing.assert_allclose(discounted_sums(rewards, 0.9), [2.62, 1.8, 2.0])
    # delta = 1 + 0.9 - 0.5, 0 - 0.9 - 1, 2 + 1
    np.testing.assert_allclose(gae(rewards, values, 0.9, 0.0), [1.4, -1.9, 3.0])
    np.testing.assert_allclose(gae(rewards, values, 0.9, 1.0), [2.12, 0.8, 3.0])
    np.testing.assert_allclose(gae(rewards, values, 0.9, 0.5), [1.4 - 0.45 * 0.55, -0.55, 3.0])


def test_features_of_three_steps_by_hand():
    found = features(np.array([[3.0], [-20.0], [0.5]], np.float32))
    expected = [
        [3, 9, 0, 0, 0, 1],
        [-10, 100, 0.01, 1e-4, 1e-6, 1],
        [0.5, 0.25, 0.02, 4e-4, 8e-6, 1],
    ]
    np.testing.assert_allclose(found, expected)


def test_the_baseline_is_fitted_to_each_task_where_it_counts():
    """What is linear in the features is predicted but for the ridge; what is masked is not seen."""
    rng = np.random.default_rng(0)
    x, alive = rng.normal(size=(2, 5, 30, 2)), np.ones((2, 5, 30))
    weights = np.array([[1, 2, 3, 4, 0, 0, 0, 5], [-1, 0, 2, 1, 0, 0, 0, -3.0]])
    returns = (features(x) * weights[:, None, None]).sum(-1)
    alive[:, :, 25:] = 0
    spoilt = np.where(alive > 0, returns, 1e6)
    found = fitted_values(x, spoilt, alive)
    np.testing.assert_allclose(found[..., :25], returns[..., :25], atol=1e-4)


def test_the_baseline_of_states_that_do_not_vary_is_their_mean_return():
    x, returns = np.zeros((1, 2, 1, 3)), np.array([[[1.0], [3.0]]])
    np.testing.assert_allclose(
        fitted_values(x, returns, np.ones((1, 2, 1))), [[[2.0], [2.0]]], 1e-4
    )


def test_advantages_have_mean_0_and_deviation_1_in_each_task():
    found = sampled(rl.Navigation2D)
    gains = advantages(found)
    for task, alive in zip(gains, found.alive):
        assert task[alive > 0].mean() == pytest.approx(0, abs=1e-6)
        assert task[alive > 0].std() == pytest.approx(1, abs=1e-5)


# The exact expected return of a small problem of decisions


class Softmax:
    """pi(a | s), a softmax of theta[s]; states and actions are one-hot."""

    def log_likelihood(self, params, x, actions):
        logits = x @ params["theta"]
        logits = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        return (logits * actions).sum(-1)


MOVES = np.array([[[0.8, 0.2], [0.1, 0.9]], [[0.6, 0.4], [0.3, 0.7]]])  # state, action, next one
GAIN = np.array([[1.0, -0.5], [0.3, 2.0]])  # state, action
WAYS = [
    (s, a)
    for s in itertools.product((0, 1), repeat=3)
    if s[0] == 0
    for a in itertools.product((0, 1), repeat=3)
]
THETA = np.array([[0.3, -0.2], [0.1, 0.5]])
AXES = np.eye(4).reshape(4, 2, 2)
ALPHA = 0.7


def all_ways():
    """Return every way through it as a task of one rollout: states, steps, chance of the moves."""
    states, actions = (np.array(part) for part in zip(*WAYS))
    chance = MOVES[states[:, :-1], actions[:, :-1], states[:, 1:]].prod(1)
    togo = GAIN[states, actions][:, ::-1].cumsum(1)[:, ::-1]
    ones = np.ones_like(togo)
    steps = surrogates.Steps(np.eye(2)[actions], None, None, None, togo, ones, ones[:, :1])
    return np.eye(2)[states], steps, chance


def log_chance(theta):
    x, steps, chance = all_ways()
    return Softmax().log_likelihood({"theta": theta}, x, steps.actions).sum(-1) + np.log(chance)


def expected_return(theta):
    """Sum over all ways of their chance times their return, exactly."""
    return (np.exp(log_chance(theta)) * all_ways()[1].advantages[:, 0]).sum()


def expected_loss(loss, theta, now):
    """What a surrogate is in the mean over rollouts by the policy of ``now``."""
    x, steps, _ = all_ways()
    return (np.exp(log_chance(now)) * loss(Softmax(), {"theta": theta}, x, steps)).sum()


def hessian_of(loss):
    return func.hessian(lambda theta: expected_loss(loss, theta, THETA))(THETA)


def test_the_chances_of_all_ways_are_one():
    assert np.exp(log_chance(THETA)).sum() == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("name", surrogates.INNER)
def test_the_gradient_of_every_surrogate_is_that_of_the_return(name):
    found = func.grad(lambda theta: expected_loss(surrogates.INNER[name], theta, THETA))(THETA)
    np.testing.assert_allclose(found, -func.grad(expected_return)(THETA), atol=1e-13)


def scores():
    """Return the chance of each way, and the score of each of its steps: (ways, 3, 2, 2)."""
    x, steps, _ = all_ways()
    of = lambda theta: Softmax().log_likelihood({"theta": theta}, x, steps.actions)
    return np.exp(log_chance(THETA)), func.jacobian(of)(THETA), steps.advantages


def test_the_plain_surrogate_lacks_what_theta_does_to_the_sampling():
    """H = E[d g / d theta] + E[g (grad log p)^T]; the plain surrogate has the first term alone."""
    exact, plain = -func.hessian(expected_return)(THETA), hessian_of(surrogates.reinforce)
    chance, step, togo = scores()
    missing = -np.einsum("w,wt,wtij,wskl->ijkl", chance, togo, step, step)
    assert abs(missing).max() > 0.1
    np.testing.assert_allclose(plain + missing, exact, atol=1e-13)


def test_the_low_variance_surrogate_lacks_the_products_between_steps():
    exact, found = -func.hessian(expected_return)(THETA), hessian_of(surrogates.low_variance)
    chance, step, togo = scores()
    own = np.einsum("w,wt,wtij,wtkl->ijkl", chance, togo, step, step)
    between = np.einsum("w,wt,wtij,wskl->ijkl", chance, togo, step, step) - own
    assert abs(between).max() > 0.01
    np.testing.assert_allclose(found - between, exact, atol=1e-13)


def test_dice_has_the_exact_second_derivative():
    exact = -func.hessian(expected_return)(THETA)
    np.testing.assert_allclose(hessian_of(surrogates.dice), exact, atol=1e-13)


def meta_gradient(inner):
    """Of the return after one step down an inner loss: d J(theta - alpha grad inner) / d theta."""
    return func.grad(lambda t: expected_return(t - ALPHA * func.grad(inner)(t)))(THETA)


def test_with_dice_the_meta_gradient_is_exact_and_with_the_plain_surrogate_it_is_not():
    exact = meta_gradient(lambda theta: -expected_return(theta))
    found = {
        name: meta_gradient(lambda theta, loss=loss: expected_loss(loss, theta, THETA))
        for name, loss in surrogates.INNER.items()
    }
    np.testing.assert_allclose(found["dice"], exact, atol=1e-13)
    assert abs(found["reinforce"] - exact).max() > 0.01 * abs(exact).max()


def test_sampled_second_derivatives_of_dice_are_right_in_the_mean_and_vary_the_most():
    """Of 20,000 ways drawn by their chances: within four standard errors of the exact one."""
    drawn = np.random.default_rng(0).choice(len(WAYS), 20_000, p=np.exp(log_chance(THETA)))
    x, steps, _ = all_ways()
    exact, spread = -func.hessian(expected_return)(THETA), {}
    for name, loss in surrogates.INNER.items():
        losses = lambda theta, loss=loss: loss(Softmax(), {"theta": theta}, x, steps)
        along = lambda f, v: lambda theta: func.jvp(f, theta, v)[1]
        each = [[along(along(losses, v), w)(THETA) for w in AXES] for v in AXES]
        each = np.moveaxis(np.array(each).reshape(2, 2, 2, 2, -1), -1, 0)[drawn]
        error = each.std(0) / np.sqrt(len(drawn))
        far = abs(each.mean(0) - exact) > 4 * error + 1e-12
        assert far.any() == (name != "dice")
        spread[name] = each.var(0).sum()
    assert spread["dice"] > spread["low-variance"]


# TRPO


def small(first_order=False, **settings):
    learner = rl.MAML(
        rl.GaussianPolicy(2, 2, (3,)),
        rl.Navigation2D,
        0.5,
        rollouts=4,
        first_order=first_order,
        **settings,
    )
    theta = learner.policy.init(np.random.default_rng(0))
    shift = np.random.default_rng(3).normal(size=3).astype(np.float32)  # off the kink at 0
    theta["linear1.bias"] = tm.tensor(shift, requires_grad=True)
    goals = rl.Navigation2D.sample_tasks(np.random.default_rng(1), 2)
    (chunk,) = learner.experience(theta, goals, lambda *key: np.random.default_rng(key))
    return learner, theta, chunk


def in_float64(structure):
    wide = lambda a: (
        tm.tensor(a.data.astype(float), requires_grad=True)
        if isinstance(a, tm.Tensor)
        else a.astype(float)
    )
    return tm.engine.structure.map_leaves(wide, structure)


def vector_of(theta, seed):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=p.shape) for name, p in theta.items()}


@pytest.mark.parametrize("first_order", [False, True])
def test_the_product_is_that_of_the_hessian_of_the_kl(first_order):
    """Against J^T M J, where J is d(mean, log sigma) / d theta and M the Fisher matrix there.

    And against differences of the gradient of the KL. First order, J is that of a step whose
    gradient is a constant, so that differences, which see it change, are others.
    """
    learner, theta, (support, query, *_) = small(first_order, eager=True)
    theta, support, query = in_float64((theta, support, query))
    x, y = query

    def outputs(theta):
        params = tm.maml.per_task(theta, 2)
        for rollouts in support:
            params = learner.adapt(params, rollouts)
        mean, log_std = learner.policy(params, x)
        return {"mean": mean, "log_std": log_std}

    theta = {name: p.data for name, p in theta.items()}
    tensors = {name: tm.tensor(p, requires_grad=True) for name, p in theta.items()}
    now = outputs(tensors)
    query = query._replace(y=y._replace(mean=now["mean"].numpy(), log_std=now["log_std"].numpy()))
    v = vector_of(learner.policy.init(np.random.default_rng(0)), 2)
    found = learner.kl_product(tensors, support, query, v)

    _, moved = func.jvp(outputs, theta, v)
    _, pullback = func.vjp(outputs, theta)
    weight = y.weight / 2  # the mean over two tasks
    metric = {
        "mean": moved["mean"] * np.exp(-2 * now["log_std"].numpy())[:, None] * weight[..., None],
        "log_std": 2 * moved["log_std"] * weight.sum(-1)[:, None],
    }
    (expected,) = pullback(metric)
    kl = lambda theta: learner.loss(surrogates.divergence, theta, support, query)
    shifted = lambda e: func.grad(kl)({name: p + e * v[name] for name, p in theta.items()})
    plus, minus = shifted(1e-6), shifted(-1e-6)
    for name in theta:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-8, atol=1e-10)
        if not first_order:
            differences = (plus[name] - minus[name]) / 2e-6
            np.testing.assert_allclose(found[name], differences, rtol=1e-4, atol=1e-6)


def test_a_quadratic_is_solved_in_as_many_steps_as_it_has_dimensions():
    root = np.random.default_rng(0).normal(size=(6, 6))
    matrix, b = root @ root.T + np.eye(6), np.random.default_rng(1).normal(size=6)
    product = lambda v: {"x": matrix @ v["x"]}
    solved = conjugate_gradient(product, {"x": b}, iterations=6, tolerance=0.0)["x"]
    np.testing.assert_allclose(solved, np.linalg.solve(matrix, b), rtol=1e-8)
    five = conjugate_gradient(product, {"x": b}, iterations=5, tolerance=0.0)["x"]
    assert abs(matrix @ five - b).max() > 1e-4


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_step_of_trpo_lowers_the_loss_within_its_bound(steps):
    learner, theta, chunk = small(steps=steps, eager=True)
    whole = [(chunk.support, chunk.query)]
    before, still = learner.over_tasks(learner.measure, theta, whole)
    assert float(still) == pytest.approx(0, abs=1e-6)
    new, _ = rl.TRPO(max_kl=0.01)(learner, theta, [chunk], {})
    loss, kl = learner.over_tasks(learner.measure, new, whole)
    assert loss < before and 0.001 < kl <= 0.01


def test_where_no_step_is_good_theta_stays():
    learner, theta, chunk = small(eager=True)
    assert rl.TRPO(tries=0)(learner, theta, [chunk], {})[0] is theta


# Surrogates and the gradient after adaptation, against PyTorch


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("name", surrogates.INNER)
def test_the_meta_gradient_is_pytorchs(name, first_order):
    torch = pytest.importorskip("torch")
    learner, theta, (support, query, *_) = small(first_order, surrogate=name, eager=True)
    theta, support, query = in_float64((theta, support, query))
    names = list(theta)

    def policy(p, x):
        h = torch.relu(x @ p["linear1.weight"] + p["linear1.bias"])
        return torch.distributions.Normal(
            h @ p["linear2.weight"] + p["linear2.bias"], p["log_std"].exp()
        )

    def inner(p, x, y):
        log_pi = policy(p, x).log_prob(y.actions).sum(-1)
        if name == "reinforce":
            terms = log_pi * y.advantages
        elif name == "low-variance":
            terms = torch.exp(log_pi - log_pi.detach()) * y.advantages
        else:
            alive = (y.weight > 0).double()
            upto = (log_pi * alive).reshape(4, -1).cumsum(1)
            box = torch.exp(upto - upto.detach())
            before = upto - (log_pi * alive).reshape(4, -1)
            terms = (box - torch.exp(before - before.detach())).reshape(-1) * y.advantages
        return -(terms * y.weight).sum()

    start = {n: torch.tensor(p.numpy(), requires_grad=True) for n, p in theta.items()}
    total = 0
    for i in range(2):
        p = start
        for batch in (*support, query):
            x = torch.tensor(batch.x[i])
            y = surrogates.Steps(*[torch.tensor(np.array(a[i])) for a in batch.y])
            if batch is query:
                ratio = torch.exp(policy(p, x).log_prob(y.actions).sum(-1) - y.log_pi)
                total = total - (ratio * y.advantages * y.weight).sum() / 2
            else:
                g = torch.autograd.grad(
                    inner(p, x, y), list(p.values()), create_graph=not first_order
                )
                p = {
                    n: w - 0.5 * (d.detach() if first_order else d)
                    for (n, w), d in zip(p.items(), g)
                }
    expected = torch.autograd.grad(total, [start[n] for n in names])
    value, found = learner.ratio_gradient(theta, support, query)
    assert value.item() == pytest.approx(total.item(), abs=1e-11)
    for n, g in zip(names, expected):
        np.testing.assert_allclose(found[n].numpy(), g.numpy(), rtol=1e-9, atol=1e-9)


def test_first_order_gives_another_gradient():
    """In a published implementation it did not, since the gradients were constants in both."""
    gradients = []
    for first_order in (False, True):
        learner, theta, (support, query, *_) = small(first_order)
        gradients.append(learner.ratio_gradient(theta, support, query)[1]["linear1.weight"].numpy())
    assert abs(gradients[0] - gradients[1]).max() > 1e-3 * abs(gradients[0]).max()


def test_the_clipped_loss_has_no_gradient_where_it_would_reward_more_change():
    policy = rl.GaussianPolicy(1, 1, ())
    theta = {
        name: tm.tensor(p.data.astype(float), requires_grad=True)
        for name, p in policy.init(np.random.default_rng(0)).items()
    }
    x, actions = np.ones((1, 4, 1)), np.zeros((1, 4, 1))
    now = policy.log_likelihood(tm.maml.per_task(theta, 1), x, actions).numpy()
    ratio, gains = np.array([[1.1, 1.3, 0.7, 1.3]]), np.array([[1.0, 1.0, -1.0, -1.0]])
    steps = surrogates.Steps(
        actions, None, None, now - np.log(ratio), gains, np.ones((1, 4)), gains[:, :1]
    )
    value = surrogates.clipped(policy, tm.maml.per_task(theta, 1), x, steps)
    assert value.item() == pytest.approx(-(1.1 + 1.2 - 0.8 - 1.3))
    free = steps._replace(weight=np.array([[1.0, 0, 0, 1]]))  # the steps that are not clipped
    ours, expected = (
        tm.grad(loss(policy, tm.maml.per_task(theta, 1), x, y).sum(), theta)
        for loss, y in ((surrogates.clipped, steps), (surrogates.importance, free))
    )
    for name, g in ours.items():
        np.testing.assert_allclose(g.numpy(), expected[name].numpy(), rtol=1e-12)


def test_compiled_and_eager_updates_are_equal_bit_for_bit():
    for update in (rl.TRPO(), rl.PPO()):
        ends = []
        for eager in (False, True):
            learner, theta, chunk = small(eager=eager)
            state = update.init(theta)
            for _ in range(3):
                theta, state = update(learner, theta, [chunk], state)
            ends.append(theta)
        for name, p in ends[0].items():
            np.testing.assert_array_equal(p.numpy(), ends[1][name].numpy())


def test_dot_is_over_all_parts():
    assert (
        dot({"a": np.ones((2, 2)), "b": np.ones(1)}, {"a": np.full((2, 2), 2.0), "b": np.ones(1)})
        == 9
    )


def test_the_products_of_trpo_are_taken_where_the_divergence_is_least():
    policy = rl.GaussianPolicy(2, 2, (3,))
    learner = rl.MAML(policy, rl.Navigation2D, 0.5, rollouts=8, chunk=3, few=2)
    theta = learner.policy.init(np.random.default_rng(0))
    goals = rl.Navigation2D.sample_tasks(np.random.default_rng(1), 6)
    chunks = learner.experience(theta, goals, lambda *key: np.random.default_rng(key))
    asked = []

    class Watched(rl.MAML):
        def kl_product(self, theta, support, query, v):
            asked.append((support, query, v))
            return super().kl_product(theta, support, query, v)

    watched = Watched(**{**vars(learner), "eager": True})
    rl.TRPO(iterations=3)(watched, theta, chunks, {})
    theta = in_float64(theta)
    for support, query, v in map(in_float64, asked):
        assert len(query.x) == len(support[0].x) == 2
        kl = learner.loss(surrogates.divergence, theta, support, query)
        assert abs(kl.item()) < 1e-6  # the policies are those that sampled
        product = learner.kl_product(theta, support, query, v)
        assert sum((v[name] * raw(product[name])).sum() for name in v) > 0
    assert len(asked) == 2 * 4  # chunks; products of three iterations and of the length


def test_returns_that_no_baseline_fits_are_said():
    x, alive = np.zeros((1, 2, 3, 2)), np.ones((1, 2, 3))
    with pytest.raises(FloatingPointError, match="the baseline cannot be fitted"):
        fitted_values(x, np.full((1, 2, 3), np.nan), alive)
