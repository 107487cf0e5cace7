"""The estimators with scikit-learn's manners, on trained networks and by hand."""

import copy
import pickle
import re
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

import tinymaml as tm
from tinymaml.errors import UserError

pytestmark = pytest.mark.numpy_only

rng = np.random.default_rng(0)
STROKES = np.zeros((3, 28, 28))
STROKES[0, 4:24, 13:15] = STROKES[1, 13:15, 4:24] = STROKES[2, 12:16, 12:16] = 1
NAMES = ["upright", "lying", "dot"]
MOVED = np.concatenate([np.roll(STROKES, k, axis=(1, 2)) for k in (1, 2, 3)])
LEARNERS = ["omniglot", "omniglot-20way-tied", "omniglot-matching", "omniglot-protonet"]
LEARNERS += ["omniglot-siamese"]


class Same(tm.nn.Layer):
    """What is given."""

    def __call__(self, params, x):
        return x


class LeastSquares(tm.learners.Learner):
    """A line through the support: a regression with any number of features."""

    def init(self, rng):
        return {}

    def predict(self, params, support, x):
        x, known = (np.concatenate([a, np.ones_like(a[..., :1])], -1) for a in (x, support.x))
        gram = known.mT @ known + 1e-6 * np.eye(known.shape[-1])
        return tm.tensor(x @ np.linalg.solve(gram, known.mT @ support.y))


def classifier(name, **options):
    return tm.FewShotClassifier(*tm.pretrained(name), **options)


@pytest.mark.parametrize("name", LEARNERS)
def test_labels_are_words_and_an_answer_does_not_depend_on_its_company(name):
    few = classifier(name).fit(STROKES, NAMES)
    assert few.classes_.tolist() == sorted(NAMES) and few.n_features_in_ == 784
    together = few.predict_proba(MOVED)
    assert together.shape == (9, 3)
    np.testing.assert_allclose(together.sum(1), 1)
    for image, p in zip(MOVED, together):
        np.testing.assert_allclose(few.predict_proba(image[None])[0], p, rtol=1e-3, atol=1e-5)
    assert few.score(MOVED, NAMES * 3) == np.mean(few.predict(MOVED) == NAMES * 3) >= 0.8
    # in the transductive protocol it does
    few.set_params(transductive=True).fit(STROKES, NAMES)
    alone, together = few.predict_proba(MOVED[:1]), few.predict_proba(MOVED)[:1]
    assert abs(np.log(alone / together)).max() > 0.5


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("transductive", [False, True])
def test_the_answers_are_the_learners_own(name, transductive):
    learner, params = tm.pretrained(name)
    x, y = rng.random((5, 28, 28, 1), np.float32), np.array([3, 1, 0, 2, 4])
    new = rng.random((7, 28, 28, 1), np.float32)
    few = tm.FewShotClassifier(learner, params, transductive=transductive).fit(x, y)
    changed = {"inductive": not transductive} | ({"ways": 5} if hasattr(learner, "ways") else {})
    with tm.no_grad():
        support = tm.Batch(x[None], y[None])
        scores = replace(learner, **changed).predict(params, support, new[None]).numpy()[0]
    p = np.exp(scores - scores.max(-1, keepdims=True))
    expected = p / p.sum(-1, keepdims=True)
    np.testing.assert_allclose(few.predict_proba(new), expected, rtol=1e-3, atol=1e-5)


def test_images_in_any_form_are_the_same():
    expected = classifier("omniglot").fit(STROKES, NAMES).predict_proba(MOVED)
    for form in (
        lambda x: x[..., None],
        lambda x: x.reshape(len(x), -1),
        lambda x: (255 * x).astype(np.uint8),
        lambda x: x.tolist(),
    ):
        said = classifier("omniglot").fit(form(STROKES), NAMES).predict_proba(form(MOVED))
        np.testing.assert_array_equal(said, expected)


def test_numbers_that_no_training_had_are_told_once_at_the_line_that_gives_them():
    said = "up to 255, where networks were trained on 0 to 1"
    with pytest.warns(UserWarning, match=said) as told:
        classifier("omniglot").fit(255 * STROKES, NAMES).score(255 * STROKES, NAMES)
    assert [warning.filename for warning in told] == [__file__]
    few = classifier("omniglot").fit(STROKES, NAMES)
    for ask in (few.predict_proba, few.predict, lambda x: few.score(x, NAMES)):
        with pytest.warns(UserWarning, match=said) as told:
            ask(255 * STROKES)
        assert [warning.filename for warning in told] == [__file__]


def test_many_images_are_the_same_as_a_few():
    few = classifier("omniglot-protonet").fit(STROKES, NAMES)
    many = np.tile(MOVED, (30, 1, 1))
    assert few.predict(many).tolist() == few.predict(MOVED).tolist() * 30


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_fewer_classes_than_the_head_has_are_told_apart(classes):
    x, y = STROKES.repeat(2, axis=0)[:classes], list("abcde")[:classes]
    few = classifier("omniglot").fit(x, y)
    assert few.predict_proba(x).shape == (classes, classes) and set(few.predict(x)) <= set(y)


def test_more_classes_than_the_head_has_are_refused_and_others_take_any_number():
    x = rng.random((25, 28, 28))
    with pytest.raises(UserError, match="y has 25 classes, but this MAML was trained for 5; give"):
        classifier("omniglot").fit(x, range(25))
    for name in LEARNERS[1:]:
        assert classifier(name).fit(x, range(25)).predict_proba(x[:2]).shape == (2, 25)
    streams = tm.learners.MANN(tm.nn.Flatten(), features=16, n_way=2)
    few = tm.FewShotClassifier(streams, streams.init(np.random.default_rng(0)))
    assert few.fit(x[:2, :4, :4], [7, 8]).predict(x[:1, :4, :4])[0] in (7, 8)
    with pytest.raises(UserError, match="3 classes, but this MANN was trained for 2"):
        few.fit(x[:3, :4, :4], [7, 8, 9])


def test_unequal_numbers_of_examples_make_prototypes_of_their_own_means():
    x, y = np.array([[0.0, 0], [0, 2], [4, 1], [9, 9]]), ["a", "a", "b", "c"]
    few = tm.FewShotClassifier(tm.learners.ProtoNet(Same()), {}).fit(x, y)
    new = np.array([[1.0, 1.0]])
    scores = -np.array([1.0, 9.0, 128.0])  # squared distances to (0, 1), (4, 1), (9, 9)
    np.testing.assert_allclose(few.predict_proba(new)[0], np.exp(scores) / np.exp(scores).sum())
    for name in LEARNERS:
        images = np.concatenate([STROKES, MOVED[:2]])
        told = [*NAMES, "upright", "lying"]
        assert classifier(name).fit(images, told).score(images, told) >= 0.8


def test_a_wave_from_five_points():
    x, grid = np.linspace(-4, 4, 5)[:, None], np.linspace(-4, 4, 50)[:, None]
    wave = lambda x: 3 * np.sin(x[:, 0] + 1)
    learner, params = tm.pretrained("sinusoid")
    before = tm.FewShotRegressor(learner, params, steps=0).fit(x, wave(x))
    after = tm.FewShotRegressor(learner, params, steps=10).fit(x, wave(x))
    assert after.score(grid, wave(grid)) > 0.8 > before.score(grid, wave(grid))
    error, spread = wave(grid) - after.predict(grid), wave(grid) - wave(grid).mean()
    np.testing.assert_allclose(
        after.score(grid, wave(grid)), 1 - (error**2).sum() / (spread**2).sum()
    )
    # predictions have the form of y, and are the learner's
    column = after.fit(x, wave(x)[:, None]).predict(grid)
    assert column.shape == (50, 1)
    support = tm.Batch(x[None].astype("float32"), wave(x)[None, :, None].astype("float32"))
    (said,) = learner.predictions(params, support, grid[None].astype("float32"), [10])
    np.testing.assert_allclose(column, said.numpy()[0], rtol=1e-4, atol=1e-5)
    # by default as many steps as the tests take
    np.testing.assert_allclose(
        tm.FewShotRegressor(learner, params).fit(x, wave(x)).predict(grid),
        tm.FewShotRegressor(learner, params, steps=1).fit(x, wave(x)).predict(grid),
    )


def test_a_fitted_estimator_can_be_copied_and_kept():
    few = classifier("omniglot").fit(STROKES, NAMES)
    for other in (copy.deepcopy(few), pickle.loads(pickle.dumps(few))):
        np.testing.assert_array_equal(other.predict_proba(MOVED), few.predict_proba(MOVED))
    assert repr(few) == "FewShotClassifier(MAML)"
    fresh = tm.FewShotClassifier(**few.get_params())
    assert fresh.get_params() == few.get_params()


X, WAVE = np.zeros((3, 1)), np.zeros(3)
REFUSED = {
    "no list of images": (STROKES[0, 0], ["a"] * 28, r"shape \(28,\), which is no list"),
    "rows that are no squares": (np.zeros((3, 50)), NAMES, r"shape \(3, 50\); give images"),
    "colour": (np.zeros((3, 28, 28, 3)), NAMES, r"give images \(n, h, w, 1\)"),
    "a label too few": (STROKES, NAMES[:2], "x has 3 examples and y 2"),
    "no labels": (STROKES, None, "the target y is None"),
    "two labels each": (STROKES, np.zeros((3, 2)), r"y has the shape \(3, 2\)"),
    "measurements": (STROKES, [0.1, 0.2, 0.3], "y has fractions"),
    "not a number": (STROKES * np.nan, NAMES, "x contains NaN or infinity"),
    "complex": (STROKES * 1j, NAMES, "x is complex"),
    "one label": (STROKES, 3, "y is one int; give a list"),
    "a generator of labels": (STROKES, iter(NAMES), "y is one list_iterator; give a list"),
    "a set of labels": (STROKES, set(NAMES), "y is one set; give a list"),
    "a label that is missing": (STROKES, ["a", None, "b"], "y has labels of several kinds"),
    "words": (NAMES, NAMES, "x has entries that are no numbers"),
    "ragged": ([[1, 2], [3], [4]], NAMES, "x has rows of unequal length"),
    "a generator": ((x for x in STROKES), NAMES, "x is one generator; give a list"),
    "nothing": (STROKES[:0], [], "x is empty"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_examples_are_one_sentence(case):
    x, y, sentence = REFUSED[case]
    with pytest.raises(UserError, match=sentence):
        classifier("omniglot").fit(x, y)


def test_bad_use_is_one_sentence():
    few = classifier("omniglot-protonet")
    with pytest.raises(ValueError, match="this FewShotClassifier is not fitted yet; call fit"):
        few.predict(STROKES)
    with pytest.raises(UserError, match=r"an example is \(14, 14, 1\) here and was \(28, 28, 1\)"):
        few.fit(STROKES, NAMES).predict(STROKES[:, ::2, ::2])
    with pytest.raises(UserError, match="steps is 3, but ProtoNet takes no gradient steps"):
        few.set_params(steps=3).fit(STROKES, NAMES)
    with pytest.raises(UserError, match="'way' is not a parameter of FewShotClassifier"):
        few.set_params(way=3)
    with pytest.raises(UserError, match="this MAML predicts numbers; a FewShotClassifier takes"):
        classifier("sinusoid").fit(X, NAMES)
    with pytest.raises(UserError, match="this MAML acts; a FewShotClassifier takes"):
        classifier("navigation").fit(X, NAMES)
    for name in ("omniglot", "omniglot-protonet"):
        with pytest.raises(UserError, match="sorts into classes; a FewShotRegressor takes"):
            tm.FewShotRegressor(*tm.pretrained(name)).fit(STROKES, WAVE)
    with pytest.raises(UserError, match=r"y has the shape \(3, 2\); give 1 for each example"):
        tm.FewShotRegressor(*tm.pretrained("sinusoid")).fit(X, np.zeros((3, 2)))
    with pytest.raises(UserError, match="predictions are not finite"), np.errstate(all="ignore"):
        wild = tm.FewShotRegressor(*tm.pretrained("sinusoid"), steps=30)
        wild.fit(X + 1e6, WAVE + 1e6).predict(X)


NO_SCORES = {
    "no labels": (None, "the target y is None"),
    "a word": ("dot", "y is one str; give a list"),
    "a number": (3, "y is one int; give a list"),
    "a label too many": ([*NAMES, "dot"], "x has 3 examples and y 4"),
    "one label": (["dot"], "x has 3 examples and y 1"),
    "a column": (np.array(NAMES)[:, None], r"y has the shape \(3, 1\); give one label for each"),
}


@pytest.mark.parametrize("case", NO_SCORES)
def test_a_score_needs_a_label_for_each_example(case):
    y, sentence = NO_SCORES[case]
    with pytest.raises(UserError, match=sentence):
        classifier("omniglot").fit(STROKES, NAMES).score(STROKES, y)


def test_a_score_needs_numbers_in_the_form_of_the_predictions():
    x = np.linspace(-4, 4, 5)[:, None]
    y = 3 * np.sin(x[:, 0] + 1)
    few = tm.FewShotRegressor(*tm.pretrained("sinusoid"), steps=10)
    for known, other in ((y, y[:, None]), (y[:, None], y)):
        few.fit(x, known)
        assert few.score(x, known) > 0.8
        with pytest.raises(UserError, match=rf"y has the shape {re.escape(str(other.shape))}, but"):
            few.score(x, other)
    with pytest.raises(UserError, match="x has 5 examples and y 4"):
        few.score(x, y[:4])
    with pytest.raises(UserError, match="the target y is None"):
        few.score(x, None)


NO_LEARNERS = {
    "both in one": ((tm.pretrained("omniglot"),), "one tuple"),
    "a tuple": ((tm.pretrained("omniglot"), {}), "one tuple"),
    "a dictionary": (tm.pretrained("omniglot")[::-1], "one dict"),
    "a name": (("omniglot", {}), "one str"),
}


@pytest.mark.parametrize("case", NO_LEARNERS)
@pytest.mark.parametrize("kind", [tm.FewShotClassifier, tm.FewShotRegressor])
def test_what_is_no_learner_is_told_first(case, kind):
    given, what = NO_LEARNERS[case]
    name = kind.__name__
    how = rf"{what}, not a learner; give both: {name}\(\*tm.pretrained\(NAME\)\)"
    with pytest.raises(UserError, match=how):
        kind(*given).fit(STROKES, NAMES)


def test_parameters_of_another_network_are_refused():
    learner, params = tm.pretrained("omniglot")
    for other, what in (
        (tm.pretrained("sinusoid")[1], "there is no conv2d1.weight"),
        (tm.pretrained("omniglot-20way-anil")[1], r"linear1.weight has the shape \(64, 20\)"),
        (None, "they are one NoneType"),
        ([params], "they are one list"),
    ):
        with pytest.raises(UserError, match=f"params are not this MAML's: {what}"):
            tm.FewShotClassifier(learner, other).fit(STROKES, NAMES)


@pytest.mark.parametrize("steps", [-1, 1.5, "3", True])
def test_steps_are_a_whole_number(steps):
    with pytest.raises(UserError, match=f"steps is {steps!r}; give a whole number from 0"):
        classifier("omniglot", steps=steps).fit(STROKES, NAMES)
    few = classifier("omniglot", steps=np.int64(2)).fit(STROKES, NAMES)
    assert few.predict(STROKES).shape == (3,)


NO_WAVES = {
    "words": (X, ["a", "b", "c"], "y has entries that are no numbers"),
    "two features": (np.zeros((3, 2)), WAVE, r"does not take examples of the shape \(2,\)"),
    "a set": (X, {1, 2, 3}, "y is one set; give a list"),
    "ragged": (X, [[1], [1, 2], [1]], "y has rows of unequal length"),
}


@pytest.mark.parametrize("case", NO_WAVES)
def test_bad_points_are_one_sentence(case):
    x, y, sentence = NO_WAVES[case]
    with pytest.raises(UserError, match=sentence):
        tm.FewShotRegressor(*tm.pretrained("sinusoid")).fit(x, y)


@pytest.mark.parametrize("name", ["omniglot-mlp", "omniglot-memory-module"])
@pytest.mark.parametrize("size", [20, 32])
def test_images_of_a_size_that_the_network_cannot_take_are_refused(name, size):
    shape = rf"does not take examples of the shape \({size}, {size}, 1\)"
    with pytest.raises(UserError, match=shape):
        few = classifier(name).fit(rng.random((3, size, size)), NAMES)
        few.predict(rng.random((3, size, size)))


# The checks compare float32 numbers more closely than these are exact
EXACT = {"unused": tm.tensor(np.float64(0))}
ESTIMATORS = [
    tm.FewShotClassifier(tm.learners.ProtoNet(Same()), EXACT),
    tm.FewShotRegressor(LeastSquares(), EXACT),
]


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("sklearn"), reason="scikit-learn is not installed")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_the_checks_of_scikit_learn(estimator):
    from sklearn.base import clone, is_classifier, is_regressor
    from sklearn.utils.estimator_checks import check_estimator

    column = {"check_supervised_y_2d": "columns of labels are refused, those of numbers are meant"}
    done = check_estimator(estimator, expected_failed_checks=column, on_skip=None)
    assert sum(check["status"] == "passed" for check in done) > 40
    assert is_classifier(estimator) != is_regressor(estimator)
    learner = clone(estimator).learner
    assert type(learner) is type(estimator.learner)


@pytest.mark.skipif(not find_spec("sklearn"), reason="scikit-learn is not installed")
def test_scikit_learn_takes_them():
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    x, y = np.concatenate([STROKES, MOVED]).reshape(12, -1), np.tile(NAMES, 4)
    few = make_pipeline(MinMaxScaler(), classifier("omniglot-protonet"))
    assert cross_val_score(few, x, y, cv=4).mean() > 0.8
