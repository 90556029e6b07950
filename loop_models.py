"""Slice the meshes of a dataset folder into its cache, and nothing else.

    python loop_models.py --optfile vases-optfile.txt

Programs written for the published one import `LoopSeqDataset` and `LoopSeqEncoderDecoderModel`
from here.
"""

import importlib

from loopdraw.files import run_script
from loopdraw.options import options_for, parse_options, require

# Imported when asked for: --help should not wait for torch.
_HOMES = {
    "LoopSeqDataset": "loopdraw.data.dataset",
    "LoopSeqEncoderDecoderModel": "loopdraw.model.vae",
}


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def main():
    options = parse_options(description=__doc__)
    require(options, "dataroot")
    from loopdraw.data.dataset import load_caches

    caches = load_caches(**options_for(load_caches, options))
    kinds = {"train": "training", "val": "validation", "test": "test"}
    sizes = [f"{len(cache.sequences)} {kinds[split]}" for split, cache in caches.items()]
    *first, last = sizes
    counts = f"{', '.join(first)} and {last}" if first else last
    longest = max(cache.sequences.shape[1] for cache in caches.values())
    print(f"{options.dataroot}: {counts} shapes of at most {longest} timesteps")


if __name__ == "__main__":
    run_script(main)
