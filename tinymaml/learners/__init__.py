"""Learners: what meta-training trains, one system a file."""

from . import maml
from .baselines import NearestNeighbour, NoAdaptation, Pretrained
from .learner import Learner
from .maml import MAML
from .mann import MANN
from .memory_module import MemoryModule
from .meta_lstm import MetaLSTM
from .protonet import ProtoNet
from .reptile import Reptile
from .statistician import NeuralStatistician

__all__ = [
    "MAML",
    "MANN",
    "Learner",
    "MemoryModule",
    "MetaLSTM",
    "NearestNeighbour",
    "NeuralStatistician",
    "NoAdaptation",
    "Pretrained",
    "ProtoNet",
    "Reptile",
    "maml",
]
