"""The dataset of the prompt: read when a command needs it."""

from pathlib import Path

import numpy as np

from loopdraw.data.dataset import SPLITS, load_datasets
from loopdraw.files import UserError


class Items:
    """The dataset that a model was trained on, and the split whose items the commands name.

    Parameters
    ----------
    dataroot : path of the dataset folder, or None when there is none
    info : DatasetInfo of the model
    use_test_set : bool, items are those of the test set
    device : torch.device
    report : function that gets lines of progress
    settings : more arguments of `load_datasets`
    """

    def __init__(self, dataroot, info, use_test_set, device, report=print, **settings):
        self.dataroot = dataroot
        self.info = info
        self.use_test_set = use_test_set
        self.device = device
        self._load = lambda: load_datasets(dataroot, info=info, report=report, **settings)
        self._datasets = None  # dict of split to LoopSeqDataset, once loaded

    def __len__(self):
        return len(self.split)

    @property
    def train_set(self):
        if self.dataroot is None:
            raise UserError("there is no dataset; name it by --dataroot")
        if self._datasets is None:
            self._datasets = self._load()
        return self._datasets["train"]

    @property
    def split(self):
        """The LoopSeqDataset whose items the commands name."""
        train = self.train_set
        if not self.use_test_set:
            return train
        if "test" not in self._datasets:
            raise UserError(
                f"{self.dataroot}: has no test set; leave out --load_test_set_for_inference"
            )
        return self._datasets["test"]

    def batch(self, index):
        """Item `index` as a batch of one, on the model's device."""
        batch = self.split.batch([index])
        return type(batch)(*(part if part is None else part.to(self.device) for part in batch))

    def closest_matches(self, sequences):
        """Index and mean squared difference of the training items nearest to sequences.

        Parameters
        ----------
        sequences : (n, T, F) float, not normalised

        Returns
        -------
        (n, 2) float, or None where there is no dataset with a cache
        """
        if self._datasets is None and not self._has_caches():
            return None
        try:
            items = self.train_set.sequences
        except UserError:
            return None
        items = items.reshape(len(items), -1)
        sequences = sequences.reshape(len(sequences), -1)
        # |a - b|^2 = |a|^2 + |b|^2 - 2 a.b: the nearest in one matrix product, which is exact
        # enough to choose by, but not to report.
        squares = np.einsum("ij,ij->i", items, items)
        nearest = (squares - 2 * sequences @ items.T).argmin(axis=1)
        differences = np.square(items[nearest] - sequences).mean(axis=1, dtype=np.float64)
        return np.stack([nearest, differences], axis=1)

    def _has_caches(self):
        root = Path(self.dataroot or "")
        splits = [root / split for split in SPLITS if split == "train" or (root / split).is_dir()]
        return all((split / "preprocessed_cache.npz").is_file() for split in splits)
