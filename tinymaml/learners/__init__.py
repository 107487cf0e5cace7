"""Learners: what meta-training trains, one system a file."""

from . import maml
from .baselines import NearestNeighbour, NoAdaptation, Pretrained
from .learner import Learner
from .maml import MAML
from .matching import MatchingNet
from .meta_lstm import MetaLSTM
from .protonet import ProtoNet
from .reptile import Reptile
from .statistician import NeuralStatistician

__all__ = [
    "MAML",
    "Learner",
    "MatchingNet",
    "MetaLSTM",
    "NearestNeighbour",
    "NeuralStatistician",
    "NoAdaptation",
    "Pretrained",
    "ProtoNet",
    "Reptile",
    "maml",
]
