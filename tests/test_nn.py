"""Layers: names, shapes, initial weights, and the rule that leading axes broadcast."""

from fractions import Fraction

import numpy as np
import pytest

import tinymaml as tm

NETWORKS = {
    "mlp": (tm.nn.mlp((1, 40, 40, 1)), (10, 1)),
    "stride": (tm.nn.conv4(5, filters=8), (5, 28, 28, 1)),
    "pool": (
        tm.nn.conv4(5, channels=3, filters=4, downsample="pool", image_size=32),
        (5, 32, 32, 3),
    ),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_a_task_axis_gives_what_a_loop_over_tasks_gives(network):
    model, shape = NETWORKS[network]
    rng = np.random.default_rng(0)
    several = [model.init(rng, dtype=float) for _ in range(3)]
    x = rng.standard_normal((3, *shape))
    stacked = {name: np.stack([p[name] for p in several]) for name in several[0]}
    together = model(stacked, tm.tensor(x)).numpy()
    for i, params in enumerate(several):
        alone = model(params, tm.tensor(x[i])).numpy()
        np.testing.assert_allclose(together[i], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("network", NETWORKS)
def test_shared_parameters_and_two_leading_axes(network):
    model, shape = NETWORKS[network]
    params = model.init(np.random.default_rng(0), dtype=float)
    x = np.random.default_rng(1).standard_normal((2, 3, *shape))
    y = model(params, tm.tensor(x)).numpy()
    np.testing.assert_allclose(y[1, 2], model(params, tm.tensor(x[1, 2])).numpy(), atol=1e-12)


def test_names_are_in_order_of_use():
    names = list(tm.nn.conv4(5).init(np.random.default_rng(0)))
    assert names[:4] == ["conv2d1.weight", "conv2d1.bias", "batchnorm1.gamma", "batchnorm1.beta"]
    assert names[-2:] == ["linear1.weight", "linear1.bias"]
    assert len(names) == 18


@pytest.mark.parametrize(
    ("model", "count"),  # Finn et al. 2017's networks, without batch norm's gamma and beta
    [
        (tm.nn.conv4(5), 111_749),
        (tm.nn.conv4(20), 112_724),
        (tm.nn.conv4(5, channels=3, filters=32, downsample="pool"), 32_645),
        (tm.nn.mlp((1, 40, 40, 1)), 1_761),
    ],
)
def test_parameter_counts_of_the_paper(model, count):
    params = model.init(np.random.default_rng(0))
    assert sum(p.size for n, p in params.items() if not n.endswith(("gamma", "beta"))) == count


def test_initial_weights_of_the_authors_code():
    rng = np.random.default_rng(0)
    mlp = tm.nn.mlp((1, 400, 400, 1)).init(rng)
    weight = mlp["linear2.weight"].numpy()
    assert np.abs(weight).max() <= 0.02  # truncated at two standard deviations of 0.01
    # a normal truncated at two standard deviations keeps 0.8796 of its own
    assert weight.std() == pytest.approx(0.008796, rel=0.01)
    stride = tm.nn.conv4(5).init(rng)
    bound = np.sqrt(6 / (9 * 64 + 9 * 64))
    for name, p in stride.items():
        if name.endswith(("bias", "beta")):
            assert not p.numpy().any()
        if name.endswith("gamma"):
            assert (p.numpy() == 1).all()
    conv = stride["conv2d2.weight"].numpy()
    assert bound * 0.99 < np.abs(conv).max() <= bound
    assert stride["linear1.weight"].numpy().std() == pytest.approx(1, rel=0.15)
    pool = tm.nn.conv4(5, channels=3, filters=32, downsample="pool").init(rng)
    assert np.abs(pool["linear1.weight"].numpy()).max() <= np.sqrt(6 / 805)


def test_a_seed_fixes_the_weights_and_they_are_float32():
    first, second = (tm.nn.conv4(5).init(np.random.default_rng(3)) for _ in range(2))
    for name, p in first.items():
        assert p.dtype == np.float32 and p.requires_grad
        np.testing.assert_array_equal(p.numpy(), second[name].numpy())


def test_batch_norm_normalises_each_channel_of_each_task():
    x = np.random.default_rng(0).normal(7, 3, (4, 6, 5, 5, 2))
    y = tm.nn.BatchNorm(2, affine=False, eps=0.0)({}, x)
    np.testing.assert_allclose(y.mean((1, 2, 3)), np.zeros((4, 2)), atol=1e-12)
    np.testing.assert_allclose(y.var((1, 2, 3)), np.ones((4, 2)), rtol=1e-12)


def test_batch_norm_keeps_its_digits_when_the_mean_is_large():
    # float32 near 1000 has steps of 6e-5: subtracting squares would leave nothing of the variance
    x = (1000 + np.random.default_rng(0).standard_normal((500, 3))).astype(np.float32)
    y = tm.nn.BatchNorm(3, affine=False)({}, x)
    exact = x.astype(float)
    exact = (exact - exact.mean(0)) / np.sqrt(exact.var(0) + 1e-5)
    np.testing.assert_allclose(y, exact, atol=2e-3)


@pytest.mark.parametrize(
    ("size", "kernel", "stride"), [(28, 3, 2), (7, 3, 2), (6, 5, 3), (5, 2, 1)]
)
def test_convolution_against_its_definition(size, kernel, stride):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, size, size, 3)), rng.standard_normal((kernel, kernel, 3, 4))
    b = rng.standard_normal(4)
    y = tm.ops.conv2d(x, w, b, stride=stride)
    out = -(-size // stride)  # TensorFlow's "same": the padding that makes it so, more of it after
    total = max((out - 1) * stride + kernel - size, 0)
    padded = np.pad(x, [(0, 0), *[(total // 2, total - total // 2)] * 2, (0, 0)])
    assert y.shape == (2, out, out, 4)
    for i, j in np.ndindex(out, out):
        window = padded[:, i * stride : i * stride + kernel, j * stride : j * stride + kernel]
        np.testing.assert_allclose(y[:, i, j], np.einsum("nklc,klco->no", window, w) + b)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", [(1, 1), (2, 3), (3, 3), (5, 2), (4, 7)])
def test_both_gradients_of_a_convolution_are_its_adjoints(kernel, stride, padding):
    """<conv(x, w), g> = <x, input gradient> = <w, weight gradient>, for any sizes."""
    rng = np.random.default_rng(0)
    for size in [(7, 7), (8, 9), (11, 10)]:
        x = tm.tensor(rng.standard_normal((2, 3, *size, 2)), requires_grad=True)
        w = tm.tensor(rng.standard_normal((2, *kernel, 2, 3)), requires_grad=True)
        y = tm.ops.conv2d(x, w, stride=stride, padding=padding)
        g = tm.tensor(rng.standard_normal(y.shape))
        of_x, of_w = tm.grad(y, [x, w], g)
        pairing = (y * g).sum().item()
        assert (x * of_x).sum().item() == pytest.approx(pairing, rel=1e-10, abs=1e-10)
        assert (w * of_w).sum().item() == pytest.approx(pairing, rel=1e-10, abs=1e-10)
        # the pairing alone would not notice a gradient that is wrong off x, so try another image
        other = tm.tensor(rng.standard_normal(x.shape))
        pairing = (tm.ops.conv2d(other, w, stride=stride, padding=padding) * g).sum().item()
        assert (other * of_x).sum().item() == pytest.approx(pairing, rel=1e-10, abs=1e-10)


def test_max_pool_drops_what_fills_no_window_and_gives_the_first_of_equals_the_gradient():
    x = tm.tensor(np.zeros((1, 3, 3, 1)), requires_grad=True)
    y = tm.ops.max_pool2d(x, 2)
    assert y.shape == (1, 1, 1, 1)
    gradient = tm.grad(y.sum(), x).numpy()[0, :, :, 0]
    np.testing.assert_array_equal(gradient, [[1, 0, 0], [0, 0, 0], [0, 0, 0]])


def test_max_pool_of_windows_with_more_than_256_elements():
    image = np.zeros((1, 17, 17, 1))
    image[0, 16, 15, 0] = 1
    x = tm.tensor(image, requires_grad=True)
    gradient = tm.grad(tm.ops.max_pool2d(x, 17).sum(), x).numpy()
    np.testing.assert_array_equal(gradient, image)


def test_a_smaller_image_has_the_means_of_what_its_pixels_cover():
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 9, 2))
    fine = np.repeat(np.repeat(x, 4, -3), 4, -2)  # 24 x 36, of which 4 x 4 have 6 x 9 each
    expected = fine.reshape(2, 3, 4, 6, 4, 9, 2).mean((3, 5))
    np.testing.assert_allclose(tm.nn.Resize(4)({}, tm.tensor(x)).numpy(), expected, rtol=1e-12)
    tm.gradcheck(lambda x: tm.nn.Resize(4)({}, x), tm.tensor(x[0, :1]))
    assert tm.nn.Resize(4)({}, tm.tensor(x.astype(np.float32))).dtype == np.float32


@pytest.mark.parametrize(("lead", "n"), [((0,), 4), ((), 0), ((2,), 0), ((0,), 0), ((2, 0), 3)])
@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # a loss over no examples is NaN, as np.mean
def test_no_tasks_or_no_images(lead, n, own):
    model = tm.nn.conv4(3, filters=4, downsample="pool", image_size=16)
    params = model.init(np.random.default_rng(0))
    if own:
        params = {
            name: tm.tensor(np.broadcast_to(p.numpy(), lead + p.shape), requires_grad=True)
            for name, p in params.items()
        }
    x = tm.tensor(np.zeros((*lead, n, 16, 16, 1), np.float32), requires_grad=True)
    y = model(params, x)
    assert y.shape == (*lead, n, 3)
    labels = tm.tensor(np.zeros((*lead, n), int))
    loss = tm.nn.cross_entropy(y, labels).sum() + tm.nn.mse_loss(y, y * 2).sum()
    first = tm.grad(loss, {"x": x, **params}, create_graph=True)
    total = sum((g * g).sum() for g in first.values())
    for gradients in (first, tm.grad(total, {"x": x, **params}, allow_unused=True)):
        for name, g in gradients.items():
            if g is not None:
                assert g.shape == (x if name == "x" else params[name]).shape
                assert not g.numpy().any()


@pytest.mark.parametrize("loss", ["mse_loss", "cross_entropy"])
def test_losses_broadcast_either_way(loss):
    rng = np.random.default_rng(0)
    function = getattr(tm.nn, loss)

    def target(*lead):
        if loss == "mse_loss":
            return rng.standard_normal((*lead, 3, 2))
        return rng.integers(2, size=(*lead, 3))

    for a, b in (((4,), ()), ((), (4,)), ((4, 1), (5,))):
        p, y = tm.tensor(rng.standard_normal((*a, 3, 2)), requires_grad=True), target(*b)
        lead = np.broadcast_shapes(a, b)
        on_backend = tm.tensor(y)
        value = function(p, on_backend)
        assert value.shape == lead
        ps = np.broadcast_to(p.numpy(), (*lead, 3, 2))
        ys = np.broadcast_to(y, lead + y.shape[len(b) :])
        for i in np.ndindex(lead):
            np.testing.assert_allclose(value.numpy()[i], function(ps[i], ys[i]), rtol=1e-14)
        tm.gradcheck(lambda p, y=on_backend: function(p, y), p)


X, WEIGHT, BIAS = np.ones((2, 4, 4, 1)), np.full((3, 3, 1, 2), 0.1), np.ones(2)


@pytest.mark.parametrize(
    "call",
    [
        lambda f: tm.ops.conv2d(f(X), f(WEIGHT)),
        lambda f: tm.ops.conv2d(f(X), f(WEIGHT), f(BIAS)),
        lambda f: tm.ops.batch_norm(f(X), f(BIAS[:1]), f(BIAS[:1])),
        lambda f: tm.ops.linalg.linear(f(X[0, 0]), f(WEIGHT[0, 0]), f(BIAS)),
    ],
)
@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize("others", [np.float64, np.uint8])
def test_layers_promote_as_numpy_does(call, at, others):
    given = []

    def convert(a):
        dtype = np.float32 if (len(given) == at) == (others == np.float64) else others
        given.append(tm.tensor(a.astype(dtype), requires_grad=dtype != np.uint8))
        return given[-1]

    y = call(convert)
    expected = np.result_type(*[t.dtype for t in given])
    assert y.dtype == expected
    floats = [t for t in given if t.requires_grad]
    for t, g in zip(floats, tm.grad(y.sum(), floats)):
        assert g.dtype == t.dtype
    same = call(lambda a: given.pop(0).numpy().astype(expected))
    ulp = 1.2e-7 if tm.get_backend() == "cupy" else 0  # another kernel for other dtypes
    np.testing.assert_allclose(y.numpy(), same, rtol=ulp)


def test_batch_norm_of_integers():
    x = np.array([[1], [3]])
    np.testing.assert_allclose(tm.nn.BatchNorm(1, affine=False, eps=0.0)({}, x), [[-1.0], [1.0]])


@pytest.mark.parametrize("lr", [np.float64(0.5), np.float32(0.5), 0.5, np.int64(2), Fraction(1, 2)])
def test_a_number_as_step_size_does_not_promote(lr):
    p = tm.tensor(np.ones(2, np.float32), requires_grad=True)
    step = tm.ops.descend(p, p, lr)
    assert step.dtype == np.float32 and tm.grad(step.sum(), p).dtype == np.float32
    np.testing.assert_array_equal(step.numpy(), np.full(2, 1 - float(lr)))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: tm.ops.conv2d(np.zeros((2, 28, 28, 3)), np.zeros((3, 3, 1, 64))),
            r"conv2d: input has 3 channels \(2, 28, 28, 3\) but weight takes 1 \(3, 3, 1, 64\)",
        ),
        (lambda: tm.ops.conv2d(np.zeros((28, 28, 3)), np.zeros((3, 3, 3, 64))), "takes images"),
        (
            lambda: tm.ops.conv2d(np.zeros((1, 2, 2, 1)), np.zeros((3, 3, 1, 1)), padding="valid"),
            "kernel .* is larger",
        ),
        (lambda: tm.ops.conv2d(X, WEIGHT, stride=0), "stride is 0; it must be"),
        (
            lambda: tm.ops.conv2d_transpose(np.zeros((2, 7, 7, 3)), np.zeros((2, 2, 8, 4))),
            r"weight \(..., k, l, o, i\), but was given shapes \(2, 7, 7, 3\) and \(2, 2, 8, 4\)",
        ),
        (
            lambda: tm.ops.conv2d_transpose(
                np.zeros((2, 7, 7, 3)), np.zeros((2, 2, 8, 3)), padding="full"
            ),
            "padding is 'full'; choose",
        ),
        (lambda: tm.nn.conv4(5, downsample="max"), "choose 'stride' or 'pool'"),
        (lambda: tm.ops.max_pool2d(np.zeros((1, 1, 4, 1)), 2), "smaller than 2"),
        (
            lambda: tm.nn.cross_entropy(np.zeros((3, 5)), np.array([0, 1, 5])),
            "labels reach from 0 to 5, but 5 logits need 0 to 4",
        ),
        (lambda: tm.nn.cross_entropy(np.zeros((3, 5)), np.zeros(3)), "integer labels"),
        (lambda: tm.nn.cross_entropy(np.zeros((3, 5)), np.zeros(4, int)), "integer labels"),
        (lambda: tm.nn.mse_loss(np.zeros((3, 1)), np.zeros((4, 1))), "must agree"),
        (
            lambda: tm.nn.Linear(3, 2)({"weight": 0, "bias": 0}, np.zeros((5, 4))),
            r"takes \(..., n, 3\)",
        ),
        (lambda: tm.ops.batch_norm(np.zeros((4, 3)), np.ones(2), np.zeros(2)), "must agree"),
    ],
)
def test_bad_shapes_are_named(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


@pytest.mark.parametrize("filters", [2, 3])
def test_the_networks_of_the_statistician_mirror_each_other(filters):
    rng = np.random.default_rng(0)
    encoder, decoder = tm.nn.conv9(filters), tm.nn.deconv9(5, filters)
    params = encoder.init(rng), decoder.init(rng)
    assert encoder(params[0], tm.tensor(np.zeros((3, 28, 28, 1)))).shape == (3, 4 * 4 * 4 * filters)
    assert decoder(params[1], tm.tensor(np.zeros((3, 5)))).shape == (3, 28, 28, 1)
    convolutions = [layer for layer in encoder.layers if isinstance(layer, tm.nn.Conv2d)]
    assert [layer.stride for layer in convolutions] == [1, 1, 2] * 3
    assert [layer.outputs // filters for layer in convolutions] == [1] * 3 + [2] * 3 + [4] * 3
    assert len(tm.nn.conv9().init(rng)) == 9 * 4


def test_a_transposed_convolution_enlarges_for_each_task_by_its_own_weight():
    layer, rng = tm.nn.ConvTranspose2d(3, 2, 2, stride=2), np.random.default_rng(0)
    params = [layer.init(rng), layer.init(rng)]
    x = tm.tensor(rng.standard_normal((2, 5, 4, 3, 3)).astype(np.float32))
    both = layer({n: np.stack([p[n] for p in params]) for n in params[0]}, x)
    assert both.shape == (2, 5, 8, 6, 2)
    for one, p, images in zip(both, params, x):
        np.testing.assert_allclose(one.numpy(), layer(p, images).numpy(), rtol=1e-5, atol=1e-6)
