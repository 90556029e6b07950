"""Train a model on a folder of meshes: tiny and for a few epochs, to show how it goes.

    python examples/05_train.py [folder] [epochs] [dataset]

writes the model into `trained/` in the folder, which is `example_output` by default. The dataset is
a folder with `train/`, the meshes and their `planespec.txt`; by default a few vases are made,
`trained-on/`. For a model worth looking at use `loop_models_main.py`, which takes many options.
"""

import sys
from pathlib import Path

from loopdraw.data.dataset import load_datasets
from loopdraw.demo.dataset import make_dataset
from loopdraw.files import write_text
from loopdraw.model.training import Trainer
from loopdraw.model.vae import LoopSeqEncoderDecoderModel

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "example_output")
n_epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 5
dataset = Path(sys.argv[3]) if len(sys.argv) > 3 else folder / "trained-on"
data = dict(loop_repr_type="fixed-res-polyline", use_eos_token=True)
network = dict(architecture="transformer", transformer_arch_version=1, latent_size=8)
network |= dict(enc_transformer_d_model=32, dec_transformer_d_model=32, enc_kl_weight=1e-3)

if not dataset.exists():
    make_dataset("vases", dataset, n_train=4, n_test=2, seed=0)
sets = load_datasets(dataset, **data)  # slices the meshes; the loops are kept for next time
train_set = sets["train"]
model = LoopSeqEncoderDecoderModel(train_set.info, **network)
trainer = Trainer(model, train_set, folder / "trained", lr=1e-3, niter=n_epochs, seed=0)
for epoch in range(n_epochs):
    reconstruction, kl = trainer.run_epoch(epoch)
    print(f"epoch {epoch}  reconstruction {reconstruction:.4f}  kl {kl:.4f}")
trainer.save(n_epochs - 1, "latest")
train_set.info.save(trainer.save_dir)
options = "\n".join(f"--{name} {value}" for name, value in (data | network).items())
write_text(trainer.save_dir / "opt.txt", options + "\n")  # what loopdraw.load reads
