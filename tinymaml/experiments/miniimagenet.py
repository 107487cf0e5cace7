"""Few-shot classification of photographs."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .. import nn
from ..errors import UserError
from .classification import Classification


@dataclass(frozen=True)
class MiniImageNet(Classification):
    """Few-shot classification of photographs (Finn et al. 2017, section 5.2): four convolutions.

    Takes any images in a layout of MiniImageNet; tables name the data by their title.
    """

    steps: int = 60_000
    meta_batch: int = 4
    inner_lr: float = 0.01
    inner_steps: int = 5
    n_query: int = 15
    test_steps: int = 10
    filters: int = 32
    image_size: int = 84
    clip: float = 10.0

    data = "MiniImageNet"
    chunk = test_chunk = 1
    block = 10
    log_every, validate_every, checkpoint_every = 10, 500, 50
    validation_tasks = 100

    def __post_init__(self):
        super().__post_init__()
        if self.filters < 1:
            raise UserError(f"--filters is {self.filters}; give 1 or more")
        if not 16 <= self.image_size <= 512:
            raise UserError(f"--image-size is {self.image_size}; give 16 to 512 pixels")
        if not 0 <= self.clip < float("inf"):
            raise UserError(f"--clip is {self.clip}; give a number above 0, or 0 for no clipping")

    @cached_property
    def model(self):
        return nn.conv4(
            self.n_way,
            channels=3,
            filters=self.filters,
            downsample="pool",
            image_size=self.image_size,
        )

    def gradient(self, params, tasks):
        """Return the meta-loss and its gradient, clipped elementwise.

        The authors clip the gradient of a loss that is summed over the query and divided by K; on
        the mean over the query the limit is that much smaller.
        """
        value, gradient = super().gradient(params, tasks)
        if self.clip:
            limit = self.clip * self.k_shot / (self.n_way * self.queries("train"))
            gradient = {name: np.clip(g, -limit, limit) for name, g in gradient.items()}
        return value, gradient

    def load_data(self, data=None):
        """Load the images of a folder or zip in any layout; returns its path.

        UserError if it does not hold what is needed.
        """
        from ..tasks import miniimagenet

        loaded = miniimagenet.load(data, self.image_size)
        self.keep(loaded.images, loaded.title)
        return str(miniimagenet.find(data).resolve())

    def data_sentence(self):
        """Return the part of the protocol that is about the images."""
        counts = "/".join(str(len(self._images[split])) for split in ("train", "val", "test"))
        size = self.image_size
        return f"images: {self.data}, {size}x{size} pixels, {counts} classes"
