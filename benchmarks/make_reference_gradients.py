"""Compute the meta-gradients that ``tinymaml check`` compares with, by PyTorch alone.

``python -m benchmarks.make_reference_gradients`` writes
``tinymaml/checks/reference_gradients.npz``: parameters, tasks, and for each case
PyTorch's meta-loss and meta-gradient as one vector.
"""

import os

import numpy as np

from tinymaml.checks.reference import (
    CASES,
    N_WAY,
    NETWORKS,
    STORED,
    problem,
    torch_meta_gradient,
)

META_BATCH = 2


def make():
    """Return everything that the file holds, by name."""
    rng = np.random.default_rng(0)
    stored = {}
    for name, network in NETWORKS.items():
        for key, p in network.model.draw(rng).items():
            if p.ndim == 1:  # off their usual zeros and ones, so that a mix-up is noticed
                p = p + rng.normal(0, 0.2, p.shape)
            stored[f"{name}/params/{key}"] = p
        shape = (2, META_BATCH, *network.x_shape)  # support and query first
        if name == "mlp":
            x = rng.uniform(-5, 5, shape)
            amplitude, phase = rng.uniform((0.1, 0), (5, np.pi), (META_BATCH, 2)).T[..., None, None]
            y = amplitude * np.sin(x - phase)
        else:
            x = rng.integers(0, 256, shape, dtype=np.uint8)
            y = np.stack([rng.permutation(N_WAY) for _ in range(2 * META_BATCH)])
            y = y.reshape(2, META_BATCH, N_WAY)
        stored[f"{name}/x"], stored[f"{name}/y"] = x, y
    for case in CASES:
        stored[f"{case}"] = torch_meta_gradient(case, *problem(case.network, stored))
    return stored


if __name__ == "__main__":
    partial = STORED.with_suffix(".partial.npz")
    np.savez_compressed(partial, **make())
    os.replace(partial, STORED)
    print(f"wrote {STORED}, {STORED.stat().st_size / 1000:.0f} kB")
