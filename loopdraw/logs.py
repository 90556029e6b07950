"""What a training run writes down: `loss_log.txt`, `test_log.txt`, TensorBoard's event files."""

from pathlib import Path

from loopdraw.files import UserError, write_text

TRAIN_LOG, TEST_LOG = "loss_log.txt", "test_log.txt"


class TrainingLog:
    """The logs of a checkpoint's folder, cut back to the epoch at which training goes on.

    Parameters
    ----------
    save_dir : path of the folder
    first_epoch : int, the first epoch that is going to be trained
    """

    def __init__(self, save_dir, first_epoch):
        from torch.utils.tensorboard import SummaryWriter

        self.save_dir = Path(save_dir)
        for name in (TRAIN_LOG, TEST_LOG):
            _cut_back(self.save_dir / name, first_epoch)
        self.writer = SummaryWriter(self.save_dir, purge_step=first_epoch)

    def add(self, name, epoch, reconstruction, kl):
        """Append a line to TRAIN_LOG or TEST_LOG."""
        try:
            with open(self.save_dir / name, "a", encoding="utf-8") as file:
                file.write(f"{epoch},{reconstruction:.9g},{kl:.9g}\n")
        except OSError as error:
            raise UserError(
                f"{self.save_dir / name}: cannot be written ({error.strerror}); free some space "
                "and resume"
            ) from None
        split = "train" if name == TRAIN_LOG else "test"
        self.scalars(epoch, **{f"reconstruction/{split}": reconstruction, f"kl/{split}": kl})

    def has(self, name, epoch):
        """Whether TRAIN_LOG or TEST_LOG has a line of this epoch."""
        path = self.save_dir / name
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return any(line.split(",")[0] == str(epoch) for line in lines)

    def scalars(self, epoch, **values):
        """Write numbers for TensorBoard only."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, epoch)

    def close(self):
        self.writer.close()


def _cut_back(path, first_epoch):
    """Drop the lines of epochs that are trained again, and a line that a crash cut short."""
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8")
    kept = []
    for line in text.splitlines(keepends=True):
        epoch = line.split(",")[0]
        if line.endswith("\n") and epoch.isdigit() and int(epoch) < first_epoch:
            kept.append(line)
    if "".join(kept) != text:
        write_text(path, "".join(kept))
