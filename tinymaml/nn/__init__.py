"""Layers, initial weights, losses, and the paper's networks."""

from ..engine.ops import cross_entropy
from ..engine.ops import mse as mse_loss
from .layers import (
    ELU,
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Reshape,
    Residual,
    Sequential,
    SpatialMean,
)
from .networks import conv4, conv9, deconv9, mlp
from .weights import glorot_uniform, he_normal, normal, truncated_normal

__all__ = [
    "ELU",
    "BatchNorm",
    "Conv2d",
    "ConvTranspose2d",
    "Flatten",
    "Layer",
    "Linear",
    "MaxPool2d",
    "ReLU",
    "Reshape",
    "Residual",
    "Sequential",
    "SpatialMean",
    "conv4",
    "conv9",
    "cross_entropy",
    "deconv9",
    "glorot_uniform",
    "he_normal",
    "mlp",
    "mse_loss",
    "normal",
    "truncated_normal",
]
