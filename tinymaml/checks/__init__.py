"""Proof that gradients are right."""

from .gradients import GradientError, compare, gradcheck, gradgradcheck

__all__ = ["GradientError", "compare", "gradcheck", "gradgradcheck"]
