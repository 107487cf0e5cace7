"""Learners: what meta-training trains, one system a file."""

from . import maml
from .anil import ANIL
from .baselines import NearestNeighbour, NoAdaptation, Pretrained
from .imaml import IMAML
from .learner import Learner
from .maml import MAML
from .maml_plus import MAMLPlus
from .mann import MANN
from .matching import MatchingNet
from .memory_module import MemoryModule
from .meta_lstm import MetaLSTM
from .meta_sgd import MetaSGD
from .protonet import ProtoNet
from .reptile import Reptile
from .siamese import Siamese
from .statistician import NeuralStatistician

__all__ = [
    "ANIL",
    "IMAML",
    "MAML",
    "MANN",
    "Learner",
    "MAMLPlus",
    "MatchingNet",
    "MemoryModule",
    "MetaLSTM",
    "MetaSGD",
    "NearestNeighbour",
    "NeuralStatistician",
    "NoAdaptation",
    "Pretrained",
    "ProtoNet",
    "Reptile",
    "Siamese",
    "maml",
]
