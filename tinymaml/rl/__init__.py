"""Algorithm 3: MAML for reinforcement learning."""

from .environments import Environment, InformedNavigation2D, Navigation2D
from .maml import MAML
from .policies import GaussianPolicy
from .ppo import PPO
from .rollout import Trajectories, sample
from .trpo import TRPO

__all__ = [
    "MAML",
    "PPO",
    "TRPO",
    "Environment",
    "GaussianPolicy",
    "InformedNavigation2D",
    "Navigation2D",
    "Trajectories",
    "sample",
]
