"""The experiments of the paper: settings, training, tests, runs, and reports.

An experiment is composed of a method (how something is learned), a problem (what), and a schedule
(how long and how fast). ``EXPERIMENTS`` holds them by name.
"""

from .classification import MiniImageNet, Omniglot, OmniglotMLP
from .experiment import OF_THE_TEST, Experiment
from .methods import GROUPS, Method
from .presets import BESIDE, EXPERIMENTS, from_config
from .problem import Problem
from .reinforcement import Navigation, PolicyMAML, Reinforcement
from .runs import Run
from .schedule import Schedule, flag
from .sinusoid import Sinusoids

__all__ = [
    "BESIDE",
    "EXPERIMENTS",
    "GROUPS",
    "OF_THE_TEST",
    "Experiment",
    "Method",
    "MiniImageNet",
    "Navigation",
    "Omniglot",
    "OmniglotMLP",
    "PolicyMAML",
    "Problem",
    "Reinforcement",
    "Run",
    "Schedule",
    "Sinusoids",
    "flag",
    "from_config",
]
