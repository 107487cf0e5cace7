"""Proof that gradients are right."""

from .exercises import check
from .gradients import GradientError, compare, gradcheck, gradgradcheck

__all__ = ["GradientError", "check", "compare", "gradcheck", "gradgradcheck"]
