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
    cosine_similarity,
    dropout,
)
from .networks import conv4, mlp
from .recurrent import LSTM, BiLSTM, LSTMCell
from .weights import glorot_uniform, he_normal, normal, truncated_normal

__all__ = [
    "LSTM",
    "BatchNorm",
    "BiLSTM",
    "Conv2d",
    "Flatten",
    "LSTMCell",
    "Layer",
    "Linear",
    "MaxPool2d",
    "ReLU",
    "Sequential",
    "SpatialMean",
    "conv4",
    "cosine_similarity",
    "cross_entropy",
    "dropout",
    "glorot_uniform",
    "he_normal",
    "mlp",
    "mse_loss",
    "normal",
    "truncated_normal",
]
