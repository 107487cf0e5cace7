"""Layers, initial weights, losses, and the paper's networks."""

from ..engine.ops import cross_entropy
from ..engine.ops import mse as mse_loss
from .layers import (
    BatchNorm,
    Conv2d,
    Flatten,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    SpatialMean,
)
from .networks import conv4, mlp
from .weights import glorot_uniform, he_normal, normal, truncated_normal

__all__ = [
    "BatchNorm",
    "Conv2d",
    "Flatten",
    "Layer",
    "Linear",
    "MaxPool2d",
    "ReLU",
    "Sequential",
    "SpatialMean",
    "conv4",
    "cross_entropy",
    "glorot_uniform",
    "he_normal",
    "mlp",
    "mse_loss",
    "normal",
    "truncated_normal",
]
