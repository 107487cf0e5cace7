"""The paper's networks."""

import itertools
from collections.abc import Sequence

from .layers import (
    ELU,
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Reshape,
    Sequential,
    Sigmoid,
    SpatialMean,
)
from .weights import Initialiser, normal, truncated_normal


def mlp(
    sizes: Sequence[int], weight_init: Initialiser | None = None, batch_norm: bool = False
) -> Sequential:
    """Fully connected network with ReLU between its layers.

    Parameters
    ----------
    sizes : sequence of int
        Features from input to output; the paper's sinusoid network is (1, 40, 40, 1).
    weight_init : function, optional
        Of (rng, shape); the authors' by default, a normal of standard deviation 0.01 truncated at
        two (Finn et al. 2017, the authors' code).
    batch_norm : bool
        Normalise before every ReLU; the paper's network without convolution does, on images that
        :class:`Flatten` has made vectors (Finn et al. 2017, A.1).

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> params = tm.nn.mlp((1, 40, 40, 1)).init(np.random.default_rng(0))
    >>> sum(p.size for p in params.values())
    1761
    """
    layers = []
    for i, o in itertools.pairwise(sizes):
        layers.append(Linear(i, o, weight_init or truncated_normal(0.01)))
        layers += [BatchNorm(o), ReLU()] if batch_norm else [ReLU()]
    return Sequential(*layers[: -2 if batch_norm else -1])


def conv4(
    ways: int,
    channels: int = 1,
    filters: int = 64,
    downsample: str = "stride",
    image_size: int | None = None,
) -> Sequential:
    """The paper's convolutional network: four blocks, then a linear layer.

    Parameters
    ----------
    ways : int
        Classes, the number of logits.
    channels, filters : int
        Of the input; of every block.
    downsample : {"stride", "pool"}
        "stride" is the Omniglot form: convolutions of stride 2, then the mean over the remaining
        2 x 2 positions. "pool" is the MiniImageNet form: 2 x 2 max-pooling, then all 5 x 5
        positions (Finn et al. 2017, section 5.2).
    image_size : int, optional
        Height and width of the images, 28 for "stride" and 84 for "pool" by default.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> params = tm.nn.conv4(5).init(np.random.default_rng(0))
    >>> sum(p.size for name, p in params.items() if not name.startswith("batchnorm"))
    111749
    """
    if downsample not in ("stride", "pool"):
        raise ValueError(f"conv4: downsample is {downsample!r}; choose 'stride' or 'pool'")
    pool = downsample == "pool"
    size = image_size or (84 if pool else 28)
    layers = []
    for i in range(4):
        layers.append(Conv2d(filters if i else channels, filters, 3, stride=1 if pool else 2))
        layers.append(BatchNorm(filters))
        # Max-pooling and ReLU commute: pooling first leaves ReLU a quarter of the numbers.
        layers += [MaxPool2d(2), ReLU()] if pool else [ReLU()]
    if pool:
        side = size // 16
        layers += [Flatten(), Linear(side * side * filters, ways)]
    else:
        layers += [SpatialMean(), Linear(filters, ways, normal(1.0))]
    return Sequential(*layers)


def conv9(filters: int = 64) -> Sequential:
    """The encoder of the neural statistician: images of 28 x 28 to 4 * 4 * 4 * filters features.

    Nine convolutions of 3 x 3, every third of stride 2 and with twice the filters after it, each
    with batch norm and ELU (Edwards & Storkey 2017).

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> encoder = tm.nn.conv9(2)
    >>> encoder(encoder.init(np.random.default_rng(0)), np.zeros((5, 28, 28, 1))).shape
    (5, 128)
    """
    layers, channels = [], 1
    for outputs in (filters, 2 * filters, 4 * filters):
        for stride in (1, 1, 2):
            layers += [Conv2d(channels, outputs, 3, stride), BatchNorm(outputs), ELU()]
            channels = outputs
    return Sequential(*layers, Flatten())


def deconv9(inputs: int, filters: int = 64) -> Sequential:
    """The mirror of :func:`conv9`: vectors to the logits of 28 x 28 pixels.

    A linear layer, then three times two convolutions and a transposed one of 2 x 2 and stride 2,
    each with batch norm and ELU: 4, 8, 16 and 28 pixels. The last convolution of 3 x 3 is "valid",
    which makes 14 pixels of 16; one of 1 x 1 gives the logits.

    Examples
    --------
    >>> import numpy as np, tinymaml as tm
    >>> decoder = tm.nn.deconv9(8, 2)
    >>> decoder(decoder.init(np.random.default_rng(0)), np.zeros((5, 8))).shape
    (5, 28, 28, 1)
    """
    channels = 4 * filters
    layers = [Linear(inputs, 4 * 4 * channels), Reshape(4, 4, channels), BatchNorm(channels), ELU()]
    for outputs in (4 * filters, 2 * filters, filters):
        last = "valid" if outputs == filters else "same"
        for layer in (
            Conv2d(channels, outputs, 3),
            Conv2d(outputs, outputs, 3, padding=last),
            ConvTranspose2d(outputs, outputs, 2, stride=2),
        ):
            layers += [layer, BatchNorm(outputs), ELU()]
        channels = outputs
    return Sequential(*layers, Conv2d(filters, 1, 1))


def koch() -> Sequential:
    """One of the twins of a siamese network: (n, 105, 105, 1) -> (n, 4096).

    Koch, Zemel & Salakhutdinov 2015, Figure 4 and section 3.2: 38.95 million parameters.

    Examples
    --------
    >>> import tinymaml as tm
    >>> [layer.outputs for layer in tm.nn.koch().layers if hasattr(layer, "outputs")]
    [64, 128, 128, 256, 4096]
    """
    bias, layers, channels = normal(0.01, mean=0.5), [], 1
    for filters, size in ((64, 10), (128, 7), (128, 4), (256, 4)):
        how = {"padding": "valid", "weight_init": normal(0.01), "bias_init": bias}
        layers += [Conv2d(channels, filters, size, **how), MaxPool2d(2), ReLU()]
        channels = filters
    layers[-2:] = [ReLU(), Flatten()]  # the last convolution is not pooled
    return Sequential(*layers, Linear(6 * 6 * 256, 4096, normal(0.2), bias), Sigmoid())
