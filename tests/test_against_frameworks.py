"""Values, gradients and Hessian-vector products against PyTorch, JAX and HIPS autograd.

One row per op: its NumPy spelling, which tinymaml, JAX and autograd share (``np`` is numpy,
jax.numpy or autograd.numpy), PyTorch's, and the inputs. Everything is float64.
"""

import numpy
import pytest

import tinymaml as tm
from tinymaml import ops

try:
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(1)
except ImportError:
    torch = None
try:
    import jax

    jax.config.update("jax_enable_x64", True)
except ImportError:
    jax = None
try:
    import autograd
    import autograd.numpy
except ImportError:
    autograd = None

pytestmark = pytest.mark.slow

TOLERANCE = 1e-10
rng = numpy.random.default_rng(5)

P = rng.uniform(0.2, 0.8, (2, 3))  # inside the domain of every elementwise function but arccosh
Q = rng.uniform(0.2, 0.8, (3,))
X = rng.standard_normal((2, 3))
Y = rng.standard_normal((2, 3))
Z = rng.standard_normal((2, 3, 2))
M = rng.standard_normal((3, 3)) + 3 * numpy.eye(3)
MS = rng.standard_normal((2, 3, 3)) + 3 * numpy.eye(3)
IMAGES = rng.standard_normal((4, 5, 6, 2))
WEIGHT = rng.standard_normal((3, 3, 2, 3))
ROWS = {}


def row(name, numpys, torchs, *inputs, jax=True, autograd=True):
    """Add a row; ``jax`` and ``autograd`` say whether they have the op in NumPy's spelling."""
    ROWS[name] = (
        numpys,
        torchs,
        inputs,
        {"torch": torchs is not None, "jax": jax, "autograd": autograd},
    )


# Elementwise: the same name everywhere.
for name in (
    "negative square sqrt exp exp2 expm1 log log2 log10 log1p sin cos tan arcsin arccos arctan "
    "sinh cosh tanh arcsinh arctanh absolute reciprocal sign floor ceil rint"
).split():
    row(
        name,
        lambda np, x, name=name: getattr(np, name)(x),
        lambda x, name=name: {"rint": torch.round}.get(name, getattr(torch, name, None))(x),
        P,
        autograd=name != "rint",
    )
for name in "add subtract multiply divide power maximum minimum logaddexp arctan2 hypot".split():
    row(
        name,
        lambda np, a, b, name=name: getattr(np, name)(a, b),
        lambda a, b, name=name: getattr(torch, {"power": "pow"}.get(name, name))(a, b),
        P,
        Q,  # broadcasts
        autograd=name != "hypot",
    )
row("arccosh", lambda np, x: np.arccosh(x), lambda x: torch.arccosh(x), P + 1)
row("cbrt", lambda np, x: np.cbrt(x), lambda x: x ** (1 / 3), P, autograd=False)
row("x ** 3", lambda np, x: x**3, lambda x: x**3, X)
row("x ** -2", lambda np, x: x**-2, lambda x: x**-2, P)
row("2 ** x", lambda np, x: 2**x, lambda x: 2**x, X)
row("clip", lambda np, x: np.clip(x, -0.5, 0.5), lambda x: torch.clamp(x, -0.5, 0.5), X)
row(
    "where",
    lambda np, a, b: np.where(a > b, a * b, b**2),
    lambda a, b: torch.where(a > b, a * b, b**2),
    X,
    Y,
)

# Reductions and scans.
for axis in (None, 0, -1, (0, 2)):
    everywhere = tuple(range(3)) if axis is None else axis
    for name in ("sum", "mean"):
        row(
            f"{name} axis={axis}",
            lambda np, x, name=name, axis=axis: getattr(np, name)(x, axis=axis) ** 2,
            lambda x, name=name, axis=everywhere: getattr(torch, name)(x, dim=axis) ** 2,
            Z,
        )
    for name, extremum in {"max": "amax", "min": "amin"}.items():
        row(
            f"{name} axis={axis}",
            lambda np, x, name=name, axis=axis: getattr(np, name)(x, axis=axis) ** 2,
            lambda x, extremum=extremum, axis=everywhere: getattr(torch, extremum)(x, axis) ** 2,
            Z,
        )
    for name in ("var", "std"):
        row(
            f"{name} axis={axis}",
            lambda np, x, name=name, axis=axis: getattr(np, name)(x, axis=axis),
            lambda x, name=name, axis=everywhere: getattr(torch, name)(x, axis, correction=0),
            Z,
        )
    row(
        f"norm axis={axis}",
        lambda np, x, axis=axis: (
            np.sqrt(np.sum(x**2, axis=axis))
            if np is not numpy
            else np.linalg.norm(x if axis is not None else x.reshape(-1), axis=axis)
        ),
        lambda x, axis=everywhere: torch.linalg.vector_norm(x, dim=axis),
        Z,
    )
row(
    "mean keepdims",
    lambda np, x: x - np.mean(x**2, axis=(0, 2), keepdims=True),
    lambda x: x - (x**2).mean((0, 2), keepdim=True),
    Z,
)
row("prod", lambda np, x: np.prod(x, axis=1), lambda x: torch.prod(x, 1), X)
row(
    "prod of a zero",
    lambda np, x: np.prod(x),
    lambda x: torch.prod(x),
    X * (X != X[0, 0]),
    autograd=False,  # it divides by the factor
)
row("cumsum", lambda np, x: np.cumsum(x**2, axis=1), lambda x: torch.cumsum(x**2, 1), X)
row("sort", lambda np, x: np.sort(x.reshape(6)) ** 2, lambda x: torch.sort(x.reshape(6))[0] ** 2, X)
for axis in (0, -1):
    for name in ("logsumexp", "softmax", "log_softmax"):
        row(
            f"{name} axis={axis}",
            lambda np, x, name=name, axis=axis: of(np, name)(x, axis=axis),
            lambda x, name=name, axis=axis: getattr(torch, name)(x, axis),
            X,
            autograd=False,
        )
for name in ("relu", "elu", "sigmoid", "softplus", "gelu"):
    row(
        name,
        lambda np, x, name=name: of(np, name)(x),
        lambda x, name=name: (
            F.gelu(x, approximate="tanh") if name == "gelu" else getattr(F, name)(x)
        ),
        X,
        autograd=False,
    )

# fmt: off
# Shapes, joins and indexing; squared, so that there is a second derivative.
row("reshape", lambda np, x: np.reshape(x, (3, 2)) ** 2, lambda x: x.reshape(3, 2) ** 2, X)
row("transpose", lambda np, x: np.transpose(x, (2, 0, 1)) ** 2,
    lambda x: x.permute(2, 0, 1) ** 2, Z)
row("moveaxis", lambda np, x: np.moveaxis(x, 0, -1) ** 2, lambda x: x.movedim(0, -1) ** 2, Z)
row("broadcast_to", lambda np, x: np.broadcast_to(x, (2, 2, 3)) ** 2,
    lambda x: x.expand(2, 2, 3) ** 2, X, autograd=False)
row("concatenate", lambda np, a, b: np.concatenate([a, b, a * b], axis=1),
    lambda a, b: torch.cat([a, b, a * b], 1), X, Y)
row("stack", lambda np, a, b: np.stack([a, b, a * b], axis=-1),
    lambda a, b: torch.stack([a, b, a * b], -1), X, Y)
row("split", lambda np, x: np.split(x, 3, axis=1)[1] ** 2,
    lambda x: torch.split(x, 1, 1)[1] ** 2, X)
row("repeat", lambda np, x: np.repeat(x, 2, axis=0) ** 2,
    lambda x: torch.repeat_interleave(x, 2, 0) ** 2, X)
row("tile", lambda np, x: np.tile(x, (2, 1)) ** 2, lambda x: x.tile(2, 1) ** 2, X)
row("pad", lambda np, x: np.pad(x, ((1, 0), (2, 1)), mode="constant") ** 2,
    lambda x: F.pad(x, (2, 1, 1, 0)) ** 2, X)
row("flip", lambda np, x: np.flip(x, 1) * x, lambda x: torch.flip(x, (1,)) * x, X, autograd=False)
row("roll", lambda np, x: np.roll(x, 1, axis=1) * x, lambda x: torch.roll(x, 1, 1) * x, X)
row("rot90", lambda np, x: np.rot90(x) ** 2, lambda x: torch.rot90(x) ** 2, X)
row("diagonal", lambda np, x: np.diagonal(x, 1) ** 2, lambda x: torch.diagonal(x, 1) ** 2, M,
    autograd=False)
row("diag", lambda np, x: np.diag(x[0]) @ x, lambda x: torch.diag(x[0]) @ x, M)
row("trace", lambda np, x: np.trace(x @ x), lambda x: torch.trace(x @ x), M)
row("tril", lambda np, x: np.tril(x, -1) ** 2, lambda x: torch.tril(x, -1) ** 2, M)
row("triu", lambda np, x: np.triu(x) ** 2, lambda x: torch.triu(x) ** 2, M)
row("basic index", lambda np, x: x[1, ::2] * x[0, 1:], lambda x: x[1, ::2] * x[0, 1:], X)
row("index arrays, one element twice", lambda np, x: x[[0, 1, 0], [2, 2, 2]] ** 2,
    lambda x: x[[0, 1, 0], [2, 2, 2]] ** 2, X, jax=False)
row("boolean index", lambda np, x: x[x > 0] ** 2, lambda x: x[x > 0] ** 2, X, jax=False)
row("take_along_axis",
    lambda np, x: np.take_along_axis(x, numpy.argsort(X, axis=1)[:, :2], 1) ** 2,
    lambda x: torch.gather(x, 1, torch.tensor(numpy.argsort(X, axis=1)[:, :2])) ** 2,
    X, autograd=False)

# Products and functions of matrices.
row("matmul", lambda np, a, b: a @ b, lambda a, b: a @ b, X, M)
row("matmul of stacks", lambda np, a, b: np.matmul(a, b), lambda a, b: a @ b, Z, X)
row("matrix and vector", lambda np, a, b: np.matmul(a, b), lambda a, b: a @ b, X, Q)
row("vector and stack", lambda np, a, b: np.matmul(a, b), lambda a, b: a @ b, Q, Z)
row("dot", lambda np, a, b: np.dot(a, b), lambda a, b: torch.tensordot(a, b, ([2], [0])), Z, X)
row("inner", lambda np, a, b: np.inner(a, b), lambda a, b: torch.inner(a, b), X, Y)
row("outer", lambda np, a, b: np.outer(a, b), lambda a, b: torch.outer(a, b), X[0], Y[1])
row("tensordot", lambda np, a, b: np.tensordot(a, b, ([0, 1], [0, 1])),
    lambda a, b: torch.tensordot(a, b, ([0, 1], [0, 1])), Z, X)
row("kron", lambda np, a, b: np.kron(a, b), lambda a, b: torch.kron(a, b), X, Y)
row("cross", lambda np, a, b: np.cross(a, b), lambda a, b: torch.linalg.cross(a, b), X, Y,
    autograd=False)
for subscripts, inputs in {
    "ij,jk->ik": (X, M),
    "ij,ij->": (X, Y),
    "...ij,jk->...ik": (Z, X),
    "ij,kj,jl->il": (X, Y, M),
    "ij->j": (X,),
}.items():
    row(
        f"einsum {subscripts}",
        lambda np, *x, subscripts=subscripts: np.einsum(subscripts, *x) ** 2,
        lambda *x, subscripts=subscripts: torch.einsum(subscripts, *x) ** 2,
        *inputs,
    )
row("einsum ii->i", lambda np, x: np.einsum("ii->i", x) ** 2,
    lambda x: torch.einsum("ii->i", x) ** 2, M, autograd=False)
for name in ("inv", "det", "cholesky"):
    row(
        name,
        lambda np, x, name=name: getattr(np.linalg, name)(x @ np.swapaxes(x, -1, -2)),
        lambda x, name=name: getattr(torch.linalg, name)(x @ x.mT),
        MS,
    )
row("slogdet", lambda np, x: np.linalg.slogdet(x)[1], lambda x: torch.linalg.slogdet(x)[1], MS)
# fmt: on
row("solve", lambda np, a, b: np.linalg.solve(a, b), lambda a, b: torch.linalg.solve(a, b), M, X.T)

# Decompositions: vectors are squared or multiplied out, so that their signs do not matter.
TALL = rng.standard_normal((2, 4, 3))


def eigh_parts(np, x):
    w, v = np.linalg.eigh(x + np.swapaxes(x, -1, -2))
    return np.concatenate([w[..., None, :], v**2], axis=-2)


def svd_parts(np, x):
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    return np.concatenate([u**2, s[..., None, :], np.swapaxes(vh, -1, -2) ** 2], axis=-2)


def qr_parts(np, x):
    q, r = np.linalg.qr(x)
    return np.concatenate([q**2, r**2], axis=-2)


def torch_eigh(x):
    w, v = torch.linalg.eigh(x + x.mT)
    return torch.cat([w[..., None, :], v**2], -2)


def torch_svd(x):
    u, s, vh = torch.linalg.svd(x, full_matrices=False)
    return torch.cat([u**2, s[..., None, :], vh.mT**2], -2)


def torch_qr(x):
    return torch.cat([part**2 for part in torch.linalg.qr(x)], -2)


row("eigh", eigh_parts, torch_eigh, MS)
row("svd", svd_parts, torch_svd, MS, autograd=False)
row("svd of a tall matrix", svd_parts, torch_svd, TALL, jax=False, autograd=False)
row("qr", qr_parts, torch_qr, TALL, autograd=False)
row(
    "qr of a wide matrix",
    lambda np, x: np.linalg.qr(x)[1] ** 2,
    lambda x: torch.linalg.qr(x)[1] ** 2,
    X,
    jax=False,
    autograd=False,
)
row("pinv", lambda np, x: np.linalg.pinv(x), lambda x: torch.linalg.pinv(x), TALL)
row(
    "lstsq",
    lambda np, a, b: np.linalg.lstsq(a, b, rcond=None)[0],
    lambda a, b: torch.linalg.lstsq(a, b).solution,
    TALL[0],
    TALL[1],
    autograd=False,
)
for order in ("nuc", 2, -2, 1, numpy.inf):
    row(
        f"matrix norm of order {order}",
        lambda np, x, order=order: np.linalg.norm(x, order, axis=(-2, -1)),
        lambda x, order=order: torch.linalg.matrix_norm(x, order),
        TALL,
        autograd=False,
    )
for order in (1, 3, numpy.inf, -numpy.inf):
    row(
        f"vector norm of order {order}",
        lambda np, x, order=order: np.linalg.norm(x, order, axis=1),
        lambda x, order=order: torch.linalg.vector_norm(x, order, dim=1),
        X,
        autograd=False,
    )
row(
    "multi_dot",
    lambda np, a, b: np.linalg.multi_dot([a, b, b]),
    lambda a, b: torch.linalg.multi_dot([a, b, b]),
    X,
    M,
    autograd=False,
)
row(
    "matrix_power",
    lambda np, x: np.linalg.matrix_power(x, -3),
    lambda x: torch.linalg.matrix_power(x, -3),
    MS,
    autograd=False,
)

# Statistics and numerics.
row("cov", lambda np, x: np.cov(x), lambda x: torch.cov(x), X, autograd=False)
row("corrcoef", lambda np, x: np.corrcoef(x), lambda x: torch.corrcoef(x), X, autograd=False)
for q in (0.3, 0.5):
    row(
        f"quantile {q}",
        lambda np, x, q=q: np.quantile(x, q, axis=1) ** 2,
        lambda x, q=q: torch.quantile(x, q, 1) ** 2,
        X,
        autograd=False,
    )
for name, torchs in {
    "diff": lambda x: torch.diff(x**2),
    "trapezoid": lambda x: torch.trapezoid(x**2),
    "cumprod": lambda x: torch.cumprod(x**2, 1),
    "nansum": lambda x: torch.nansum(x**2, 1),
    "gradient": lambda x: torch.gradient(x**2, dim=1)[0],
}.items():
    axis = {"cumprod": {"axis": 1}, "nansum": {"axis": 1}, "gradient": {"axis": 1}}.get(name, {})
    row(
        name,
        lambda np, x, name=name, axis=axis: getattr(np, name)(x**2, **axis),
        torchs,
        X,
        autograd=False,
    )
row("sinc", lambda np, x: np.sinc(x), lambda x: torch.sinc(x), X)
row("sinc at 0", lambda np, x: np.sinc(x), None, X - X[0, 0], autograd=False)  # JAX's has no NaN
row(
    "remainder",
    lambda np, a, b: np.remainder(a, b) ** 2,
    lambda a, b: torch.remainder(a, b) ** 2,
    X,
    P,
    autograd=False,
)
row("median", lambda np, x: np.median(x, axis=1) ** 2, lambda x: x.median(1).values ** 2, X,
    autograd=False)  # fmt: skip
row(
    "convolve",
    lambda np, a, b: np.convolve(a, b),
    lambda a, b: F.conv1d(a[None, None], b.flip(0)[None, None], padding=len(b) - 1)[0, 0],
    IMAGES[0, 0, :, 0],
    Q,
    autograd=False,
)
row(
    "interp",
    lambda np, x, f: np.interp(x, numpy.linspace(0, 1, 3), f) ** 2,
    None,
    P[0],
    Q,
    autograd=False,
)

# What NumPy lacks: PyTorch alone is asked, in its channels-first layout.


def channels_first(x):
    return x.movedim(-1, -3)


def torch_conv2d(x, weight, stride, padding):
    """Pad and convolve as tinymaml's "same" and "valid" say: the odd row of padding goes last."""
    x = channels_first(x)
    if padding == "same":
        (top, bottom), (left, right) = (
            ops.conv.same_padding(n, k, stride) for n, k in zip(x.shape[-2:], weight.shape[:2])
        )
        x = F.pad(x, (left, right, top, bottom))
    return F.conv2d(x, weight.permute(3, 2, 0, 1), stride=stride).movedim(-3, -1)


for stride in (1, 2, 3):
    for padding in ("same", "valid"):
        row(
            f"conv2d stride={stride} {padding}",
            lambda np, x, w, stride=stride, padding=padding: (
                ops.conv2d(x, w, None, stride, padding) ** 2
            ),
            lambda x, w, stride=stride, padding=padding: torch_conv2d(x, w, stride, padding) ** 2,
            IMAGES,
            WEIGHT,
            jax=False,
            autograd=False,
        )
row(
    "conv2d with a bias",
    lambda np, x, w, b: ops.conv2d(x, w, b) ** 2,
    lambda x, w, b: (torch_conv2d(x, w, 1, "same") + b) ** 2,
    *(IMAGES, WEIGHT, Q),
    jax=False,
    autograd=False,
)
for stride in (1, 2, 3):
    row(
        f"conv2d_transpose stride={stride}",
        lambda np, x, w, b, stride=stride: (
            ops.conv2d_transpose(x, w, b, stride, padding="valid") ** 2
        ),
        lambda x, w, b, stride=stride: (
            F.conv_transpose2d(channels_first(x), w.permute(3, 2, 0, 1), b, stride).movedim(-3, -1)
            ** 2
        ),
        *(IMAGES, WEIGHT.swapaxes(-1, -2), Q[: WEIGHT.shape[-1]]),
        jax=False,
        autograd=False,
    )
for name, pool in {"max_pool2d": "max_pool2d", "mean_pool2d": "avg_pool2d"}.items():
    row(
        name,
        lambda np, x, name=name: getattr(ops, name)(x) ** 2,
        lambda x, pool=pool: getattr(F, pool)(channels_first(x), 2).movedim(-3, -1) ** 2,
        IMAGES,
        jax=False,
        autograd=False,
    )
for shape, x in {"images": IMAGES, "features": rng.standard_normal((5, 2))}.items():
    row(
        f"batch_norm of {shape}",
        lambda np, x, gamma, beta: ops.batch_norm(x, gamma, beta) ** 2,
        lambda x, gamma, beta: (
            F.batch_norm(x.movedim(-1, 1), None, None, gamma, beta, training=True).movedim(1, -1)
            ** 2
        ),
        *(x, Q[:2], Q[1:]),
        jax=False,
        autograd=False,
    )
row(
    "cross_entropy",
    lambda np, x: ops.cross_entropy(x, tm.tensor([2, 0])),
    lambda x: F.cross_entropy(x, torch.tensor([2, 0])),
    X,
    jax=False,
    autograd=False,
)
row(
    "mse",
    lambda np, a, b: ops.mse(a, b),
    lambda a, b: F.mse_loss(a, b),
    *(X, Y),
    jax=False,
    autograd=False,
)


def of(np, name):
    """Return a function that NumPy lacks: tinymaml's, or JAX's of the same name."""
    return getattr(ops if np is numpy else jax.nn, name)


def with_us(f, inputs, cotangent, directions):
    """Return the value, the gradients of <cotangent, value>, and Hessian-vector products."""
    inputs = [tm.tensor(x, requires_grad=True) for x in inputs]
    y = f(numpy, *inputs)
    gradients = tm.grad(y, inputs, tm.tensor(cotangent), create_graph=True, allow_unused=True)
    along = sum((g * tm.tensor(v)).sum() for g, v in zip(gradients, directions) if g is not None)
    second = [None] * len(inputs)
    if getattr(along, "requires_grad", False):
        second = tm.grad(along, inputs, allow_unused=True)
    return [None if a is None else a.numpy() for a in (y, *gradients, *second)]


def with_torch(f, inputs, cotangent, directions):
    inputs = [torch.tensor(x, requires_grad=True) for x in inputs]
    y = f(*inputs)
    options = {"create_graph": True, "allow_unused": True}
    gradients = torch.autograd.grad(y, inputs, torch.tensor(cotangent), **options)
    along = sum((g * torch.tensor(v)).sum() for g, v in zip(gradients, directions) if g is not None)
    second = [None] * len(inputs)
    if getattr(along, "requires_grad", False):
        second = torch.autograd.grad(along, inputs, allow_unused=True)
    return [None if a is None else a.numpy(force=True) for a in (y, *gradients, *second)]


def with_functions(grad, np, f, inputs, cotangent, directions):
    """The same by transforms of functions, as JAX and autograd have them."""
    positions = tuple(range(len(inputs)))
    first = grad(lambda *x: np.sum(f(np, *x) * cotangent), positions)
    along = lambda *x: sum(np.sum(g * v) for g, v in zip(first(*x), directions))
    return [f(np, *inputs), *first(*inputs), *grad(along, positions)(*inputs)]


def assert_agree(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        if a is None or b is None:  # not connected: the other may have zeros
            assert not numpy.any(a if b is None else b)
            continue
        scale = numpy.max(numpy.abs(b), initial=0)
        assert numpy.max(numpy.abs(a - numpy.asarray(b)), initial=0) <= TOLERANCE * scale + 1e-14


def probes(name):
    """Return a row's inputs, a cotangent and directions."""
    numpys, _, inputs, _ = ROWS[name]
    rng = numpy.random.default_rng(0)
    shape = numpys(numpy, *[tm.tensor(x) for x in inputs]).shape
    return inputs, rng.standard_normal(shape), [rng.standard_normal(x.shape) for x in inputs]


def having(framework):
    return [name for name, (_, _, _, has) in ROWS.items() if has[framework]]


@pytest.mark.skipif(torch is None, reason="PyTorch is not installed")
@pytest.mark.parametrize("name", having("torch"))
def test_against_torch(name):
    given = probes(name)
    assert_agree(with_us(ROWS[name][0], *given), with_torch(ROWS[name][1], *given))


@pytest.mark.skipif(jax is None, reason="JAX is not installed")
@pytest.mark.parametrize("name", having("jax"))
def test_against_jax(name):
    given = probes(name)
    theirs = jax.jit(lambda: with_functions(jax.grad, jax.numpy, ROWS[name][0], *given))()
    assert_agree(with_us(ROWS[name][0], *given), theirs)


@pytest.mark.skipif(autograd is None, reason="HIPS autograd is not installed")
@pytest.mark.parametrize("name", having("autograd"))
@pytest.mark.filterwarnings("ignore:Output seems independent")
def test_against_autograd(name):
    given = probes(name)
    theirs = with_functions(autograd.grad, autograd.numpy, ROWS[name][0], *given)
    assert_agree(with_us(ROWS[name][0], *given), theirs)
