"""Checkpoints are written whole or not at all, and read with a clear word when they are damaged."""

import os

import pytest
import torch

from loopdraw import checkpoints
from loopdraw.checkpoints import checkpoint_label, load_state, save_states
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


def test_labels():
    assert checkpoint_label(-1) == checkpoint_label(None) == "latest"
    assert checkpoint_label(70) == "70"
