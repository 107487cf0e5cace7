"""Trained learners with scikit-learn's manners: ``fit`` on a handful of examples, then ``predict``.

They need no scikit-learn, and work with what it has for classifiers and regressors.
"""

import inspect
import warnings
from collections import deque
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from math import isqrt
from typing import Any

import numpy as np

from . import nn
from .engine.backend import asarray, to_numpy
from .engine.tensor import no_grad, raw
from .errors import UserError
from .learners import Learner
from .learners.learner import GradientLearner, Params
from .tasks import Batch

WIDEST = 16  # numbers of images do not reach farther, not even standardised ones
CHUNK = 100  # examples that are predicted at once, lest many fill the memory


class _FewShot:
    """What both estimators share: their parameters, and a task that the learner has adapted to."""

    kind = ""  # in scikit-learn's words
    names = ("learner", "params", "steps")

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments of the constructor by name."""
        return {name: getattr(self, name) for name in self.names}

    def set_params(self, **changed: Any):
        """Change arguments of the constructor, and return the estimator; ``fit`` it again after."""
        for name, value in changed.items():
            if name not in self.names:
                known = ", ".join(self.names)
                raise UserError(f"{name!r} is not a parameter of {self._name}; these are {known}")
            setattr(self, name, value)
        return self

    def __repr__(self):
        return f"{self._name}({type(self.learner).__name__})"

    def __sklearn_tags__(self):
        from sklearn import utils  # which alone calls this

        return utils.Tags(
            estimator_type=self.kind,
            target_tags=utils.TargetTags(required=True),
            classifier_tags=utils.ClassifierTags() if self.kind == "classifier" else None,
            regressor_tags=utils.RegressorTags() if self.kind == "regressor" else None,
        )

    @property
    def _name(self):
        return type(self).__name__

    def _given(self, x, y):
        """Return examples as the learner takes them, and y as an array with as many entries."""
        if isinstance(self.learner, str | tuple | list | dict | None):
            raise UserError(
                f"learner is one {type(self.learner).__name__}, not a learner; give both: "
                f"{self._name}(*tm.pretrained(NAME))"
            )
        says, loss = hasattr(self.learner, "predict"), getattr(self.learner, "loss", None)
        sorts = hasattr(self.learner, "n_way") or loss is nn.cross_entropy
        if not says or (sorts if self.kind == "regressor" else loss is nn.mse_loss):
            what = "sorts into classes" if sorts else "predicts numbers" if says else "acts"
            raise UserError(
                f"this {type(self.learner).__name__} {what}; a {self._name} takes a learner whose "
                f"predictions are {'classes' if self.kind == 'classifier' else 'numbers'}"
            )
        x = _numbers(x, "x", self.learner)
        self._wide = _is_wide(x, self.learner)
        if self._wide:
            _warn_of_range(x)
        return x, self._targets(y, len(x))

    def _targets(self, y, n):
        """Return y as an array with an entry for each of n examples."""
        if y is None:
            raise UserError(f"{self._name} requires y to be passed, but the target y is None")
        y = _array(y, "y")
        if len(y) != n:
            raise UserError(f"x has {n} examples and y {len(y)}; give one y for each x")
        return y

    def _check_params(self):
        wrong = f"params are not this {type(self.learner).__name__}'s"
        if not isinstance(self.params, dict):
            kind = type(self.params).__name__
            raise UserError(f"{wrong}: they are one {kind}; give the dict that came with it")
        for name, own in self.learner.init(np.random.default_rng(0)).items():
            if name not in self.params:
                raise UserError(f"{wrong}: there is no {name}; give those that came with it")
            if self.params[name].shape != own.shape:
                raise UserError(
                    f"{wrong}: {name} has the shape {self.params[name].shape} in place of "
                    f"{own.shape}; give those that came with it"
                )

    def _check_steps(self):
        steps = self.steps
        if steps is None:
            return
        whole = isinstance(steps, int | np.integer) and not isinstance(steps, bool)
        if not whole or steps < 0:
            raise UserError(f"steps is {steps!r}; give a whole number from 0, or None")

    def _adapt(self, x, y, learner):
        """Let the learner see the support of one task."""
        self._check_params()
        self._check_steps()
        dtype = next((p.dtype for p in self.params.values()), np.float32)
        support = Batch(asarray(x.astype(dtype))[None], asarray(y)[None])
        self._task = learner, support, None
        if isinstance(learner, GradientLearner):
            steps = learner.final_steps if self.steps is None else self.steps
            with _taking(learner, x), no_grad():
                (path,) = deque(learner.path(self.params, support, steps), maxlen=1)
                self._task = learner, support, learner.fixed(path, support)
        elif self.steps is not None:
            raise UserError(
                f"steps is {self.steps}, but {type(learner).__name__} takes no gradient steps; "
                "leave it out"
            )
        self.n_features_in_ = int(np.prod(x.shape[1:]))

    def _answers(self, x, chunk=CHUNK):
        """Return what the learner says of examples: (n, ...) -> (n, k), float64."""
        if not hasattr(self, "_task"):
            raise _not_fitted(f"this {self._name} is not fitted yet; call fit first")
        learner, support, adapted = self._task
        x, shape = _numbers(x, "x", learner), support.x.shape[2:]
        if x.shape[1:] != shape:
            size = int(np.prod(x.shape[1:]))
            raise UserError(
                f"X has {size} features, but {self._name} is expecting {self.n_features_in_} "
                f"features as input: an example is {x.shape[1:]} here and was {shape} in fit"
            )
        if _is_wide(x, learner) and not self._wide:  # else fit has said it
            _warn_of_range(x)
        said = []
        for start in range(0, len(x), chunk):
            part = asarray(x[start : start + chunk].astype(support.x.dtype))[None]
            with _taking(learner, x), no_grad():
                if adapted is None:
                    prediction = learner.predict(self.params, support, part)
                else:
                    prediction = learner.model(adapted, part)
            said.append(to_numpy(raw(prediction))[0].astype(float))
        said = np.concatenate(said)
        if not np.isfinite(said).all():
            raise UserError("the predictions are not finite: the adaptation has diverged")
        return said


class FewShotClassifier(_FewShot):
    """A trained learner as a classifier that learns new classes from a handful of examples.

    Parameters
    ----------
    learner : Learner
        One that classifies, such as :func:`tinymaml.pretrained` gives it.
    params : dict of str to Tensor
        Its trained parameters.
    steps : int, optional
        Gradient steps of ``fit``, for a learner that takes some; by default those of its tests.
    transductive : bool
        Let the examples that are predicted together see each other, as in the paper's protocol.
        By default they do not: networks with batch norm normalise every image by the statistics of
        the examples that ``fit`` was given. The answer for an image is then the same whatever is
        asked beside it, and one image alone can be asked about, whose own statistics would say
        little. The paper's accuracies are of the transductive protocol, and somewhat higher.

    Attributes
    ----------
    classes_ : array
        The labels that ``fit`` was given, sorted.
    n_features_in_ : int
        Numbers in an example.

    Notes
    -----
    Images are arrays (n, h, w), (n, h, w, channels) or, if they are square, (n, pixels); of uint8,
    or numbers in the range of the training's, which was 0 to 1. Omniglot's networks want 1 for ink
    and 0 for paper, so give ``1 - images`` of black on white: else the accuracy of ``omniglot``
    falls from 92 to 68 %. They also want 28 x 28 pixels; most networks of convolutions take others
    without a word, but have not learned to read them.

    Classes may have unequal numbers of examples. MAML takes as many classes as its last layer has
    outputs; with a tied head, and for learners that compare images, any number will do.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> classifier = tm.FewShotClassifier(*tm.pretrained("omniglot-protonet"))
    >>> strokes = np.zeros((3, 28, 28))
    >>> strokes[0, 4:24, 13:15] = strokes[1, 13:15, 4:24] = strokes[2, 12:16, 12:16] = 1
    >>> moved = np.roll(strokes, 2, axis=(1, 2))
    >>> classifier.fit(strokes, ["upright", "lying", "dot"]).predict(moved).tolist()
    ['upright', 'lying', 'dot']
    """

    kind = "classifier"
    names = (*_FewShot.names, "transductive")

    def __init__(
        self,
        learner: Learner,
        params: Params | None = None,
        steps: int | None = None,
        transductive: bool = False,
    ):
        self.learner, self.params, self.steps = learner, params, steps
        self.transductive = transductive

    def fit(self, x: Any, y: Iterable) -> "FewShotClassifier":
        """Learn new classes from labelled examples, and forget those of the last ``fit``.

        Parameters
        ----------
        x : array, shape (n, ...)
        y : sequence of n labels
            Numbers or strings.

        Returns
        -------
        FewShotClassifier
            Itself.

        Raises
        ------
        UserError
            If x or y is not of this form, or the learner does not take as many classes.
        """
        x, y = self._given(x, y)
        if y.dtype.kind == "f" and (_numbers(y, "y") != np.floor(y)).any():
            raise UserError("Unknown label type: y has fractions; give classes, not measurements")
        try:
            self.classes_, labels = np.unique(y, return_inverse=True)
        except TypeError:
            kinds = ", ".join(sorted({type(label).__name__ for label in y}))
            raise UserError(
                f"y has labels of several kinds ({kinds}); give numbers alone, or strings alone"
            ) from None
        self._adapt(x, labels, self._for_classes(len(self.classes_)))
        return self

    def predict_proba(self, x: Any) -> np.ndarray:
        """Return the probability of every class: (n, ...) -> (n, classes).

        The softmax of the learner's scores; the columns are in the order of ``classes_``.
        """
        whole = max(1, len(x)) if self.transductive else CHUNK
        scores = self._answers(x, whole)[:, : len(self.classes_)]
        p = np.exp(scores - scores.max(-1, keepdims=True))
        return p / p.sum(-1, keepdims=True)

    def predict(self, x: Any) -> np.ndarray:
        """Return the most probable label of every example."""
        best = self.predict_proba(x).argmax(-1)
        return self.classes_[best]

    def score(self, x: Any, y: Iterable) -> float:
        """Return the accuracy: the share of examples whose label is predicted."""
        said = self.predict(x)
        return float(np.mean(said == self._targets(y, len(said))))

    def _targets(self, y, n):
        y = super()._targets(y, n)
        if y.ndim != 1:
            raise UserError(f"y has the shape {y.shape}; give one label for each example")
        return y

    def _for_classes(self, n_way):
        """Return the learner for so many classes; UserError if it does not take as many."""
        learner = self.learner
        own = {f.name for f in fields(learner)} if is_dataclass(learner) else set()
        if "inductive" in own:
            learner = replace(learner, inductive=not self.transductive)
        if getattr(learner, "ways", None):
            return replace(learner, ways=n_way)
        if "train_way" in own:
            return replace(learner, n_way=n_way)
        most = getattr(_layer(learner, -1), "outputs", None) or getattr(learner, "n_way", None)
        if most and n_way > most:
            raise UserError(
                f"y has {n_way} classes, but this {type(learner).__name__} was trained for {most}; "
                "give fewer, or take a learner that compares images, such as omniglot-protonet"
            )
        return learner


class FewShotRegressor(_FewShot):
    """A trained learner as a regressor that learns a new function from a handful of points.

    Parameters
    ----------
    learner : Learner
        One that predicts numbers, such as :func:`tinymaml.pretrained` gives it.
    params : dict of str to Tensor
        Its trained parameters.
    steps : int, optional
        Gradient steps of ``fit``; by default those of its tests.

    Attributes
    ----------
    n_features_in_ : int
        Numbers in an example.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> x, grid = np.linspace(-4, 4, 5)[:, None], np.linspace(-5, 5, 50)[:, None]
    >>> regressor = tm.FewShotRegressor(*tm.pretrained("sinusoid"), steps=10)
    >>> regressor.fit(x, 3 * np.sin(x + 1)).predict(grid).shape
    (50, 1)
    """

    kind = "regressor"

    def __init__(self, learner: Learner, params: Params | None = None, steps: int | None = None):
        self.learner, self.params, self.steps = learner, params, steps

    def fit(self, x: Any, y: Any) -> "FewShotRegressor":
        """Learn a new function from points, and forget that of the last ``fit``.

        Parameters
        ----------
        x : array, shape (n, features)
        y : array, shape (n) or (n, outputs)
            Predictions have the same form.

        Returns
        -------
        FewShotRegressor
            Itself.

        Raises
        ------
        UserError
            If x or y is not of this form, or the learner classifies.
        """
        x, y = self._given(x, y)
        y = _numbers(y, "y")
        columns = y.reshape(len(y), -1)
        outputs = getattr(_layer(self.learner, -1), "outputs", columns.shape[1])
        if y.ndim > 2 or columns.shape[1] != outputs:
            raise UserError(f"y has the shape {y.shape}; give {outputs} for each example")
        self._columns = y.ndim == 2
        self._adapt(x, columns.astype(np.float32), self.learner)
        return self

    def predict(self, x: Any) -> np.ndarray:
        """Return the value at every example: (n, features) -> (n) or (n, outputs), as y was."""
        said = self._answers(x)
        return said if self._columns else said[:, 0]

    def score(self, x: Any, y: Any) -> float:
        """Return R squared: 1 less the share of the variance of y that is not predicted."""
        said = self.predict(x)
        y = _numbers(self._targets(y, len(said)), "y")
        if y.shape != said.shape:
            raise UserError(
                f"y has the shape {y.shape}, but predictions have {said.shape}, as y had in fit; "
                "give y in that form"
            )
        left, whole = ((y - said) ** 2).sum(), ((y - y.mean(axis=0)) ** 2).sum()
        return float(1 - left / whole) if whole else float(left == 0)


def _layer(learner, which):
    """Return the first (0) or the last (-1) layer of a learner's network, None if it has none."""
    networks = (getattr(learner, name, None) for name in ("model", "body", "encoder"))
    layer = next(filter(None, networks), None)
    while isinstance(layer, nn.Sequential):
        layer = layer.layers[which]
    return layer


@contextmanager
def _taking(learner, x):
    """Say of which shape the examples were, if a network cannot take them."""
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        raise UserError(
            f"this {type(learner).__name__} does not take examples of the shape {x.shape[1:]}; "
            f"give them as in its training: {error}"
        ) from error


def _array(x, name):
    """Return what was given as an array of one entry or more for each example."""
    try:
        array = np.asarray(x)
    except ValueError:
        raise UserError(
            f"{name} has rows of unequal length; give as many numbers for each example"
        ) from None
    if array.ndim == 0:
        raise UserError(f"{name} is one {type(x).__name__}; give a list or an array of examples")
    return array


def _numbers(x, name, learner=None):
    """Return what was given as an array of finite numbers, images as (n, h, w, channels)."""
    if hasattr(x, "toarray"):
        raise TypeError(f"{name} is a sparse matrix; give {name}.toarray()")
    x = _array(x, name)
    if x.dtype.kind == "c":
        raise UserError(f"Complex data not supported: {name} is complex; give real numbers")
    first = _layer(learner, 0)
    whole = 255 if x.dtype == np.uint8 and isinstance(first, IMAGE_LAYERS) else 1
    try:
        x = x.astype(float) / whole
    except ValueError:
        raise UserError(f"{name} has entries that are no numbers; give numbers alone") from None
    if name == "x" and x.ndim < 2:
        raise UserError(
            f"x has the shape {x.shape}, which is no list of examples. Reshape your data: "
            "x[None] is one example, x[:, None] has examples of one number each"
        )
    if not x.size:
        raise UserError(
            f"{name} is empty: 0 sample(s) or 0 feature(s) (shape={x.shape}) while a minimum of 1 "
            "is required."
        )
    if not np.isfinite(x).all():
        raise UserError(f"{name} contains NaN or infinity; give finite numbers")
    return _images(x, getattr(first, "channels", 1)) if isinstance(first, IMAGE_LAYERS) else x


IMAGE_LAYERS = nn.Conv2d, nn.Flatten, nn.Resize  # a network that begins with one takes images


def _is_wide(x, learner):
    return isinstance(_layer(learner, 0), IMAGE_LAYERS) and abs(x).max() > WIDEST


def _warn_of_range(x):
    """Warn at the line that called into this file, however deep in it the call is."""
    files = [frame.filename for frame in inspect.stack(0)]
    outside = next(level for level, file in enumerate(files, 1) if file != __file__)
    warnings.warn(
        f"images have numbers up to {abs(x).max():g}, where networks were trained on 0 to 1: "
        "give uint8, or divide by 255",
        stacklevel=outside,
    )


def _images(x, channels):
    side = isqrt(x.shape[1] // channels)
    if x.ndim == 2 and x.shape[1] == side * side * channels:
        x = x.reshape(-1, side, side, channels)
    elif x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4 or x.shape[-1] != channels:
        raise UserError(
            f"x has the shape {x.shape}; give images (n, h, w, {channels}), or square ones as rows"
        )
    return x


def _not_fitted(sentence):
    try:
        from sklearn.exceptions import NotFittedError
    except ImportError:
        return UserError(sentence)
    return NotFittedError(sentence)
