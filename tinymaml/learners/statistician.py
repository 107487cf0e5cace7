"""The neural statistician (Edwards & Storkey 2017): a variational autoencoder over sets of images.

The images x of a set D, which are of one class, share a context c, and each has a latent z:

    p(D) = integral of p(c) prod_x [ integral of p(x | z, c) p(z | c) dz ] dc,   p(c) = N(0, I).

The statistic network gives every image a vector, and their mean over the set gives q(c | D). All
distributions are Gaussians with a diagonal covariance, and each pixel is a Bernoulli variable. The
bound on log p(D) is R - KL with

    R  = E sum_x log p(x | z, c),                       c from q(c | D), z from q(z | c, x),
    KL = KL(q(c | D) || p(c)) + E sum_x KL(q(z | c, x) || p(z | c)),

and training ascends (1 + a) R - KL / (1 + a) per image, where a is 1 in the first epoch and halves
with each. No label is in it, except that a set is of one class. A query x is of the class whose
support D_k has the nearest posterior of the context:

    argmin over k of KL(q(c | x) || q(c | D_k)).

What the paper leaves open, or we did not find in it, and what we chose: so that sets of any size
can be understood, a number of images from 1 to all, drawn for each set, counts for q(c | D), and
1 / that number is one more entry of their mean; all images are reconstructed. Batch norm is in the
layers that work on images alone, not behind the mean over a set. The direction of the divergence is
that of a replica. An epoch is 150 iterations: 4,800 sets of 5, in batches of 32.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..engine.ops import sigmoid, softplus
from ..engine.ops.loss import one_hot
from ..engine.tensor import Tensor
from ..nn import ELU, BatchNorm, Layer, Linear, Residual, Sequential
from ..tasks import Batch, Prepared
from .learner import LEAST, Array, Learner, Params

EPOCH = 150  # iterations

Gaussian = tuple[Tensor, Tensor]  # mean and logarithm of the variance, of each coordinate


@dataclass(frozen=True)
class NeuralStatistician(Learner):
    """The neural statistician as a learner: the images of a class in an episode are a set.

    Parameters
    ----------
    encoder : Layer
        Images to features, (n, h, w, c) -> (n, features), which all networks of an image share.
    decoder : Layer
        (n, hidden) -> (n, h, w, c): the logits of pixels in [0, 1].
    features, context, latent, hidden : int
        Sizes: of what the encoder gives, of c, of z, and of the hidden layers.
    n_way, train_way : int, optional
        As of :class:`~tinymaml.learners.learner.MetricLearner`.
    inductive : bool
        Normalise the query too by the statistics of the support, and not by its own.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> sizes = dict(features=128, context=8, latent=4, hidden=16)
    >>> learner = NeuralStatistician(tm.nn.conv9(2), tm.nn.deconv9(16, 2), **sizes)
    >>> params = learner.init(np.random.default_rng(0))
    >>> support = tm.Batch(np.ones((1, 4, 28, 28, 1)), np.array([[0, 0, 1, 1]]))
    >>> learner.predict(params, support, support.x).shape
    (1, 4, 2)
    """

    encoder: Layer
    decoder: Layer
    features: int
    context: int = 512
    latent: int = 16
    hidden: int = 256
    n_way: int | None = None
    train_way: int | None = None
    inductive: bool = False

    @cached_property
    def networks(self) -> dict[str, Layer]:
        """The networks by name: "context" gives q(c | D), "inference" q(z | c, x)."""
        n, c, z = self.hidden, 2 * self.context, 2 * self.latent  # a mean and a log-variance each

        def block(inputs, outputs):
            layers = [layer for _ in range(3) for layer in (Linear(n, n), ELU())]
            block = Residual(*layers[:-1])
            return Sequential(Linear(inputs, n), ELU(), block, ELU(), Linear(n, outputs))

        return {
            "encoder": self.encoder,
            "statistic": Sequential(Linear(self.features, n), BatchNorm(n), ELU()),
            "context": Sequential(Linear(n + 1, n), ELU(), Linear(n, n), ELU(), Linear(n, c)),
            "inference": block(self.features + self.context, z),
            "prior": block(self.context, z),
            "decoder": Sequential(Linear(self.latent + self.context, n), ELU(), self.decoder),
        }

    def init(self, rng):
        parts = {name: network.init(rng) for name, network in self.networks.items()}
        return {f"{name}.{n}": p for name, own in parts.items() for n, p in own.items()}

    def prepare(self, tasks, rng, step):
        """Draw the noise of c and z and which images of a set count, and say what a is."""
        y = np.concatenate([tasks.support.y, tasks.query.y], axis=1)
        counts = self._training_sets(y).sum(-1)
        sizes = np.take_along_axis(rng.integers(1, counts + 1), y, 1)
        order = rng.random(y.shape)
        before = (y[:, :, None] == y[:, None]) & (order[:, None] < order[:, :, None])
        noise = {
            "counts": before.sum(-1) < sizes,
            "c": rng.standard_normal((*counts.shape, self.context), np.float32),
            "z": rng.standard_normal((*y.shape, self.latent), np.float32),
            "a": np.full(len(y), 0.5 ** (step // EPOCH), np.float32),
        }
        return Prepared(*tasks, noise)

    def objective(self, params, tasks):
        """Return the negative weighted bound, per image.

        Of plain tasks, which :meth:`prepare` has not seen, all images count, c and z are the means
        of their distributions, and a is 0.
        """
        x, y = (np.concatenate(pair, axis=1) for pair in zip(*tasks[:2]))
        extra = getattr(tasks, "extra", {"counts": y == y, "c": 0, "z": 0, "a": 0})
        members = self._training_sets(y)
        features = self._apply("encoder", params, x)
        q_c = self._posterior(params, features, members & extra["counts"][..., None, :])
        c = _sample(q_c, extra["c"])
        c_of_image = members.swapaxes(-1, -2).astype(c.dtype) @ c
        q_z = self._gaussian("inference", params, features, c_of_image)
        logits = self._apply("decoder", params, _sample(q_z, extra["z"]), c_of_image)
        log_p = x * logits - softplus(logits)
        reconstruction = log_p.reshape(*y.shape, -1).sum((-2, -1))
        standard = 0 * q_c[0], 0 * q_c[1]
        p_z = self._gaussian("prior", params, c_of_image)
        divergence = kl(q_c, standard).sum(-1) + kl(q_z, p_z).sum(-1)
        weight = 1 + extra["a"]
        return -(weight * reconstruction - divergence / weight).mean() / y.shape[1]

    def predict(self, params, support, x):
        fixed = self._statistics(params, support.x) if self.inductive else {}
        members = _members(support.y, self.n_way)
        sets = self._contexts(params, support.x, members)
        alone = np.broadcast_to(np.arange(x.shape[1], like=support.y), x.shape[:2])
        each = self._contexts(params | fixed, x, _members(alone, x.shape[1]))
        said = -kl([part[..., :, None, :] for part in each], [p[..., None, :, :] for p in sets])
        return np.where(members.any(-1)[..., None, :], said, LEAST)

    def samples(self, params: Params, sets: Batch, noise: Array) -> Tensor:
        """Return new images of the class of each set: z from p(z | c), c the mean of q(c | D).

        Parameters
        ----------
        params : dict of str to Tensor
        sets : Batch
            Images (n_tasks, n, h, w, c) and, by their labels, which set each belongs to.
        noise : array, shape (n_tasks, n_sets, m, latent)
            Standard normal.

        Returns
        -------
        Tensor, shape (n_tasks, n_sets * m, h, w, c)
            The probability of each pixel.
        """
        n_tasks, n_sets, m, _ = noise.shape
        c, _ = self._contexts(params, sets.x, _members(sets.y, n_sets))
        c = np.repeat(c, m, axis=-2)
        noise = noise.reshape(n_tasks, n_sets * m, -1)
        z = _sample(self._gaussian("prior", params, c), noise)
        return sigmoid(self._apply("decoder", params, z, c))

    def _training_sets(self, labels):
        return _members(labels, self.train_way or self.n_way)

    def _contexts(self, params, x, members):
        return self._posterior(params, self._apply("encoder", params, x), members)

    def _posterior(self, params, features, members):
        """Return q(c | D) of sets, from the features of all images and which are in which set."""
        vectors = self._apply("statistic", params, features)
        members = members.astype(vectors.dtype)
        share = 1 / np.maximum(members.sum(-1, keepdims=True), 1)
        return self._gaussian("context", params, (members * share) @ vectors, share)

    def _gaussian(self, name, params, *inputs):
        both = self._apply(name, params, *inputs)
        size = both.shape[-1] // 2
        return both[..., :size], both[..., size:]

    def _apply(self, name, params, *inputs):
        x = np.concatenate(inputs, axis=-1) if len(inputs) > 1 else inputs[0]
        return self.networks[name](_own(params, name), x)

    def _statistics(self, params, x):
        """Return the statistics of a batch at the batch norms before the mean over a set."""
        fixed, inputs = {}, x
        for name in ("encoder", "statistic"):
            own = self.networks[name].statistics(_own(params, name), inputs)
            fixed |= {f"{name}.{n}": value for n, value in own.items()}
            inputs = self._apply(name, params, inputs)
        return fixed


def kl(q: Gaussian, p: Gaussian) -> Tensor:
    """Return KL(q || p) of Gaussians with a diagonal covariance, summed over their coordinates.

    Examples
    --------
    Half the squared distance of the means where both variances are 1:

    >>> import numpy as np
    >>> kl((np.array([3.0]), np.zeros(1)), (np.array([1.0]), np.zeros(1)))
    np.float64(2.0)
    """
    (mean, log_var), (mean_p, log_var_p) = q, p
    difference = mean - mean_p
    ratio = np.exp(log_var - log_var_p) + difference * difference * np.exp(-log_var_p)
    return 0.5 * np.sum(ratio - 1 + log_var_p - log_var, axis=-1)


def _sample(gaussian, noise):
    mean, log_var = gaussian
    return mean + np.exp(0.5 * log_var) * noise


def _members(labels, classes):
    """Return whether each example is in each class: (n) -> (classes, n)."""
    return one_hot(labels, classes=classes or int(labels.max()) + 1).swapaxes(-1, -2)


def _own(params, name):
    return {n.removeprefix(f"{name}."): p for n, p in params.items() if n.startswith(f"{name}.")}
