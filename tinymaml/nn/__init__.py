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
    Resize,
    Sequential,
    Sigmoid,
    SpatialMean,
    cosine_similarity,
    dropout,
)
from .networks import conv4, conv9, deconv9, koch, mlp
from .recurrent import LSTM, BiLSTM, LSTMCell
from .weights import glorot_uniform, he_normal, normal, truncated_normal

__all__ = [
    "ELU",
    "LSTM",
    "BatchNorm",
    "BiLSTM",
    "Conv2d",
    "ConvTranspose2d",
    "Flatten",
    "LSTMCell",
    "Layer",
    "Linear",
    "MaxPool2d",
    "ReLU",
    "Reshape",
    "Residual",
    "Resize",
    "Sequential",
    "Sigmoid",
    "SpatialMean",
    "conv4",
    "conv9",
    "cosine_similarity",
    "cross_entropy",
    "deconv9",
    "dropout",
    "glorot_uniform",
    "he_normal",
    "koch",
    "mlp",
    "mse_loss",
    "normal",
    "truncated_normal",
]
