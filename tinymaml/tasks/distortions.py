"""Affine distortions of images (Koch, Zemel & Salakhutdinov 2015, section 4.2)."""

import numpy as np

SIDE = 105  # pixels of the images that SHIFT is of
ANGLE, SHEAR, SCALE, SHIFT = np.pi / 18, 0.3, 0.2, 2.0  # the largest: 10 degrees, ..., 2 pixels


def distort(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn, shear, scale and shift each image by chance, each of the seven with probability 1/2.

    They are the angle, and along each axis the shear, the scale and the shift. Pixels are taken
    between their neighbours (bilinear), and from outside of the image they are 0.

    Parameters
    ----------
    images : float array (..., h, w, c)
    rng : numpy.random.Generator

    Returns
    -------
    array, shape and dtype of ``images``

    Examples
    --------
    >>> images = np.random.default_rng(0).random((5, 28, 28, 1))
    >>> distort(images, np.random.default_rng(1)).shape
    (5, 28, 28, 1)
    """
    height, width, channels = images.shape[-3:]
    x = images.reshape(-1, height, width, channels)
    largest = np.array([ANGLE, SHEAR, SHEAR, SCALE, SCALE, SHIFT, SHIFT])
    drawn = rng.uniform(-largest, largest, (len(x), 7)) * (rng.random((len(x), 7)) < 0.5)
    angle, *shears, high, wide, down, right = drawn.T
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shear = np.array([[np.ones_like(angle), shears[0]], [shears[1], np.ones_like(angle)]])
    matrix = np.einsum("ijn,jkn,kn->nik", turn, shear, 1 + np.array([high, wide]))
    centre = (np.array([height, width]) - 1) / 2
    shift = np.stack([down, right], -1) * np.array([height, width]) / SIDE
    grid = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), -1)
    places = np.einsum("nij,hwj->nhwi", matrix, grid - centre) + (centre + shift)[:, None, None]
    return _between(x, places).astype(images.dtype).reshape(images.shape)


def _between(x, places):
    """Return images (n, h, w, c) at places (n, h, w, 2) between their pixels."""
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    last = np.array(x.shape[1:3]) + 1
    places = np.clip(places + 1, 0, last)
    corner = np.minimum(places.astype(int), last - 1)
    down, right = np.moveaxis(places - corner, -1, 0)[..., None]
    image, (i, j) = np.arange(len(x))[:, None, None], np.moveaxis(corner, -1, 0)
    upper = padded[image, i, j] * (1 - right) + padded[image, i, j + 1] * right
    lower = padded[image, i + 1, j] * (1 - right) + padded[image, i + 1, j + 1] * right
    return upper * (1 - down) + lower * down
