"""Few-shot classification of characters."""

from dataclasses import dataclass
from functools import cached_property

from .. import nn
from ..errors import UserError
from .classification import Classification

KINDS = {
    "random": "1100 characters to train, 100 to validate, 423 to test, irrespective of alphabet",
    "vinyals": "the split files of Vinyals et al., whose classes are characters at fixed angles",
    "lake": "background alphabets to train, 5 of them held out to validate, evaluation alphabets "
    "to test",
}


@dataclass(frozen=True)
class Omniglot(Classification):
    """Few-shot classification of characters (Finn et al. 2017, section 5.2): four convolutions."""

    steps: int = 60_000
    meta_batch: int = 32
    inner_lr: float = 0.4
    split: str = "random"
    resize: str = "nearest"

    log_every, validate_every, checkpoint_every = 20, 500, 100
    validation_tasks = 200
    block = 192

    def __post_init__(self):
        super().__post_init__()
        for name, known in (("split", tuple(KINDS)), ("resize", ("nearest", "lanczos"))):
            if getattr(self, name) not in known:
                raise UserError(
                    f"--{name} is {getattr(self, name)!r}; choose {', '.join(known[:-1])} or "
                    f"{known[-1]}"
                )
        for split, option in (("train", "--n-query"), ("test", "--test-query")):
            if self.k_shot + self.queries(split) > 20:
                raise UserError(
                    f"--k-shot {self.k_shot} and {option} {self.queries(split)} take more than "
                    "the 20 drawings that a character has; lower them"
                )

    @property
    def data(self):
        """Title of the tables; only the paper's split stands beside the paper."""
        return "Omniglot" if self.split == "random" else f"Omniglot, {self.split} split"

    @property
    def chunk(self):
        """Tasks taken at once, a power of two: about 200 images fit the caches best."""
        images = self.n_way * (self.k_shot + self.queries("train"))
        fit = max(1, 200 // images)
        return min(16, 1 << fit.bit_length() - 1)

    @property
    def test_chunk(self):
        """More, since there is no second order to hold; two make a block of the largest."""
        return 6 * self.chunk

    @cached_property
    def model(self):
        return nn.conv4(self.n_way)

    def download(self, data=None):
        """Download the characters to a folder; returns its path."""
        from ..tasks import omniglot

        data = data or "data/omniglot"
        omniglot.download(data)
        return data

    def load_data(self, data=None):
        """Load the characters of a folder.

        Returns its path. UserError if it does not hold what is needed.
        """
        from ..tasks import omniglot

        self.keep(omniglot.splits(omniglot.load(data, self.resize), self.split, data))
        return str(omniglot.find(data).resolve())

    def turned(self, split):
        """One of four angles for each class of an episode; not where the split has its own."""
        return self.split == "random" or (self.split == "lake" and split == "train")

    def data_sentence(self):
        """Return the part of the protocol that is about the images."""
        turned = "classes turned by multiples of 90 degrees"
        if self.split != "random":
            turned += ", in training only" if self.split == "lake" else " as the files say"
        return f"split: {KINDS[self.split]}; {turned}; resize: {self.resize}"


@dataclass(frozen=True)
class OmniglotMLP(Omniglot):
    """Few-shot classification of characters without convolution: MLP 784-256-128-64-64-N."""

    @property
    def method(self):
        method, *order = super().method.split(", ")
        return ", ".join([method, "no conv", *order])

    chunk = 16

    @cached_property
    def model(self):
        network = nn.mlp((784, 256, 128, 64, 64, self.n_way), batch_norm=True)
        return nn.Sequential(nn.Flatten(), *network.layers)
