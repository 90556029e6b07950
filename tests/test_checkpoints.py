"""Checkpoints are written whole or not at all, and read with a clear word when they are damaged."""

import errno
import os
import pickle
import random
import zipfile

import pytest
import torch
from conftest import PARITY

from loopdraw import checkpoints
from loopdraw.checkpoints import checkpoint_label, load_state, load_states, save_states
from loopdraw.files import UserError


def states(value):
    return {"encx_net.pth": {"w": torch.full((3,), value)}, "decx_net.pth": {"w": torch.ones(2)}}


def test_round_trip(tmp_path):
    save_states(tmp_path / "new", "x", states(2.0))
    assert load_state(tmp_path / "new/encx_net.pth")["w"].tolist() == [2.0] * 3
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["decx_net.pth", "encx_net.pth"]


def test_a_save_killed_between_two_files_is_finished_by_the_reader(tmp_path, monkeypatch):
    save_states(tmp_path, "x", states(1.0))
    moves = []

    class Killed(BaseException):
        pass

    def replace(source, target):
        if os.path.basename(source) == "encx_net.pth" and ".pending" in str(source):
            raise Killed
        moves.append(target)
        return os.rename(source, target)

    monkeypatch.setattr(checkpoints.os, "replace", replace)
    with pytest.raises(Killed):
        save_states(tmp_path, "x", states(2.0))
    monkeypatch.undo()
    # decx has moved, encx has not: reading either brings both to the new state.
    assert load_state(tmp_path / "encx_net.pth")["w"].tolist() == [2.0] * 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["decx_net.pth", "encx_net.pth"]


def test_a_save_that_fails_leaves_the_old_files(tmp_path, monkeypatch):
    save_states(tmp_path, "x", states(1.0))

    def no_space(*_):
        raise RuntimeError("PytorchStreamWriter failed writing file")

    monkeypatch.setattr(checkpoints.torch, "save", no_space)
    with pytest.raises(UserError, match="cannot be written"):
        save_states(tmp_path, "x", states(2.0))
    monkeypatch.undo()
    assert load_state(tmp_path / "encx_net.pth")["w"].tolist() == [1.0] * 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["decx_net.pth", "encx_net.pth"]


def test_bad_files(tmp_path):
    with pytest.raises(UserError, match="no such checkpoint"):
        load_state(tmp_path / "enclatest_net.pth")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    torch.save({"w": torch.ones(1000)}, tmp_path / "cut.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "cut.pth").read_bytes()[:-500])
    torch.save({"w": object()}, tmp_path / "code.pth")
    for name in ("text.pth", "cut.pth", "code.pth"):
        with pytest.raises(UserError, match=f"{name}: not a checkpoint, or damaged") as caught:
            load_state(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sealed", [True, False])
def test_a_damaged_file_is_refused_or_harmless(tmp_path, sealed):
    state = {"w": torch.arange(300.0), "epoch": 3}
    path = tmp_path / "x.pth"
    if sealed:
        save_states(tmp_path, "x", {"x.pth": state})
    else:
        torch.save(state, path)  # as published ones are
    content, generator = path.read_bytes(), random.Random(0)
    n_refused = 0
    for _ in range(150):
        bent = bytearray(content)
        place = generator.randrange(len(bent))
        bent[place] ^= 1 << generator.randrange(8)
        if generator.random() < 0.3:
            del bent[place : place + generator.randrange(1, 300)]
        path.write_bytes(bent)
        try:
            read = load_state(path)
        except UserError as error:
            n_refused += 1
            assert "\n" not in str(error)
        else:
            assert torch.equal(read["w"], state["w"]) and read["epoch"] == 3
    assert n_refused > 100


def test_files_that_are_no_checkpoints(tmp_path):
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data/0", bytes(10**6))
    with pytest.raises(UserError, match="x.pth: not a checkpoint, or damaged .its records are"):
        load_state(path)
    torch.save([1, 2], path)
    with pytest.raises(UserError, match="it holds no dictionary but list"):
        load_state(path)
    path.write_bytes(pickle.dumps({"w": 1}, protocol=2)[:-3])
    with pytest.raises(UserError, match="not a checkpoint, or damaged"):
        load_state(path)


def test_a_seal_is_nothing_to_torch(tmp_path):
    save_states(tmp_path, "x", states(2.0))
    assert torch.load(tmp_path / "encx_net.pth", weights_only=True)["w"].tolist() == [2.0] * 3
    with zipfile.ZipFile(tmp_path / "encx_net.pth") as archive:
        assert archive.testzip() is None and archive.comment.startswith(b"LoopDraw checkpoint")
    first = (tmp_path / "encx_net.pth").read_bytes()
    save_states(tmp_path, "x", states(2.0))
    assert (tmp_path / "encx_net.pth").read_bytes() == first


def read_while_saving(monkeypatch, times, save):
    """Let `save(i)` be called between the reading of two files, the first `times` times."""
    read, count = checkpoints._read, iter(range(times))

    def read_and_save(*arguments):
        result = read(*arguments)
        if (i := next(count, None)) is not None:
            save(i)
        return result

    monkeypatch.setattr(checkpoints, "_read", read_and_save)
    monkeypatch.setattr(checkpoints, "PAUSE", 0.0)


def pair(value):
    return {name: {"w": torch.full((3,), value)} for name in ("encx_net.pth", "decx_net.pth")}


def test_networks_of_two_epochs_are_never_mixed(tmp_path, monkeypatch):
    save_states(tmp_path, "x", pair(0.0))
    read_while_saving(monkeypatch, 7, lambda i: save_states(tmp_path, "x", pair(i + 1.0)))
    enc, dec = load_states(tmp_path, list(pair(0.0))).values()
    assert enc["w"].tolist() == dec["w"].tolist() == [7.0] * 3


def test_nor_where_older_files_are_saved_over(tmp_path, monkeypatch):
    for name, state in pair(0.0).items():
        torch.save(state, tmp_path / name)
    read_while_saving(monkeypatch, 1, lambda i: save_states(tmp_path, "x", pair(1.0)))
    enc, dec = load_states(tmp_path, list(pair(0.0))).values()
    assert enc["w"].tolist() == dec["w"].tolist() == [1.0] * 3


def test_files_of_two_checkpoints_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "PAUSE", 0.0)
    for value in (1.0, 2.0):
        save_states(tmp_path / str(value), "x", pair(value))
    os.replace(tmp_path / "1.0/encx_net.pth", tmp_path / "2.0/encx_net.pth")
    with pytest.raises(UserError, match="encx_net.pth, decx_net.pth are not of the same"):
        load_states(tmp_path / "2.0", list(pair(0.0)))
    # A user's program may have changed one of them.
    torch.save({"w": torch.zeros(3)}, tmp_path / "2.0/encx_net.pth")
    assert load_states(tmp_path / "2.0", list(pair(0.0)))["decx_net.pth"]["w"][0] == 2


def test_published_pairs_load(monkeypatch):
    monkeypatch.setattr(checkpoints, "TRIES", 1)
    for folder in PARITY.glob("*/enclatest_net.pth"):
        names = ["enclatest_net.pth", "declatest_net.pth"]
        assert list(load_states(folder.parent, names)) == names


def test_a_reader_and_the_writer_may_move_files_at_once(tmp_path, monkeypatch):
    save_states(tmp_path, "x", states(1.0))
    (tmp_path / ".pending-x").mkdir()

    def not_empty(self):
        raise OSError(errno.ENOTEMPTY, "Directory not empty")

    monkeypatch.setattr(checkpoints.Path, "rmdir", not_empty)  # the next one is there already
    assert load_state(tmp_path / "encx_net.pth")["w"].tolist() == [1.0] * 3


def test_labels():
    assert checkpoint_label(-1) == "latest"
    assert checkpoint_label(70) == "70"
