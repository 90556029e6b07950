"""Batches, padding and normalisation of `LoopSeqDataset`."""

import numpy as np
import pytest
import torch
from small_dataset import small_options, write_dataset, write_split

from loopdraw.data import dataset
from loopdraw.data.dataset import DatasetInfo, load_datasets, order_ties
from loopdraw.files import UserError
from loopdraw.loops.representations import REPRESENTATIONS
from loopdraw.options import options_for, parse_options


def load(dataroot, *more, **settings):
    return load_datasets(
        **options_for(
            load_datasets, parse_options(small_options(dataroot, "unused", *more, **settings))
        )
    )


@pytest.mark.parametrize("eos", [False, True])
def test_batches_as_the_networks_take_them(tmp_path, eos):
    sets = load(write_dataset(tmp_path / "d", eos=eos), "--use_eos_token", str(eos))
    train, test = sets["train"], sets["test"]
    assert train.n_timesteps == test.n_timesteps == 10 + eos
    batch = train.batch([1, 0])
    T, F = train.n_timesteps, 65
    assert batch.inputs.shape == (T + 1, 2, F) and batch.targets.shape == (T, 2, F)
    assert batch.padding.shape == (T + 1, 2)
    start = train.info.unnormalise(batch.inputs[0].numpy())
    np.testing.assert_allclose(start, 0, atol=1e-6)
    assert not batch.padding[0].any()
    assert torch.equal(batch.inputs[1:], batch.targets)
    # Item 1 lacks the loops of the last plane: two timesteps of padding.
    assert batch.padding[:, 0].sum() == 2 and batch.padding[:, 1].sum() == 0
    assert (batch.targets[-2:, 0] == 0).all()
    if eos:
        end = batch.targets[T - 3, 0]
        assert end[-1] == 1
        np.testing.assert_allclose(
            end[:-1], -train.dataset_mean[:-1] / train.dataset_std[:-1], rtol=1e-5
        )


def test_per_value_statistics(tmp_path):
    sets = load(write_dataset(tmp_path / "d"))
    train, test = sets["train"], sets["test"]
    present = np.any(train.sequences != 0, axis=2)
    timesteps = train.sequences[present].astype(float)
    np.testing.assert_allclose(train.dataset_mean[:-1], timesteps.mean(axis=0)[:-1], rtol=1e-6)
    np.testing.assert_allclose(train.dataset_std[:-1], timesteps.std(axis=0)[:-1], rtol=1e-6)
    assert train.dataset_mean[-1] == 0 and train.dataset_std[-1] == 1
    # The test set is normalised with the train set's statistics.
    np.testing.assert_array_equal(test.dataset_mean, train.dataset_mean)
    batch = test.batch([0])
    again = test.info.unnormalise(batch.targets[:, 0].numpy())
    np.testing.assert_allclose(again[present[0]], test.sequences[0][present[0]], atol=1e-6)


def test_whole_array_and_none(tmp_path):
    dataroot = write_dataset(tmp_path / "d")
    train = load(dataroot, "--data_norm_by", "whole_array")["train"]
    np.testing.assert_allclose(train.dataset_mean[:-1], train.sequences.mean(), rtol=1e-5)
    np.testing.assert_allclose(train.dataset_std[:-1], train.sequences.std(), rtol=1e-5)
    assert train.dataset_mean[-1] == 0 and train.dataset_std[-1] == 1
    train = load(dataroot, "--data_norm_by", "none")["train"]
    assert not train.dataset_mean.any() and (train.dataset_std == 1).all()


def test_a_feature_that_never_varies_switches_normalisation_off(tmp_path):
    root = tmp_path / "d"
    write_split(root / "train", 4)
    cache = root / "train/preprocessed_cache.npz"
    with np.load(cache) as arrays:
        arrays = dict(arrays)
    present = np.any(arrays["meshes_reprs"] != 0, axis=2)
    arrays["meshes_reprs"][present, 3] = 0.25
    np.savez(cache, **arrays)
    sets = load(str(root))
    assert list(sets) == ["train"]
    train = sets["train"]
    assert not train.dataset_mean.any() and (train.dataset_std == 1).all()


def test_a_validation_set_is_loaded_and_counts_for_the_length(tmp_path):
    root = tmp_path / "d"
    write_split(root / "train", 1)
    write_split(root / "test", 1)
    write_split(root / "val", 2)
    cache = root / "val/preprocessed_cache.npz"
    with np.load(cache) as arrays:
        arrays = dict(arrays)
    longer = np.pad(arrays["meshes_reprs"], [(0, 0), (0, 3), (0, 0)])
    longer[0, -3:] = longer[0, 0]
    np.savez(cache, **{**arrays, "meshes_reprs": longer})
    sets = load(str(root))
    assert [(split, len(data)) for split, data in sets.items()] == [
        ("train", 1),
        ("val", 2),
        ("test", 1),
    ]
    assert {data.n_timesteps for data in sets.values()} == {longer.shape[1]}

    np.savez(cache, **{**arrays, "planes": arrays["planes"] + 0.01})
    with pytest.raises(UserError, match="train and val sets have other planes"):
        load(str(root))


def test_an_epoch_visits_every_item_once(tmp_path):
    train = load(write_dataset(tmp_path / "d"))["train"]
    batches = train.shuffled(4, torch.Generator().manual_seed(0))
    assert [len(indices) for indices in batches] == [4, 4, 2]
    assert sorted(torch.cat(batches).tolist()) == list(range(10))


def test_mistakes(tmp_path):
    root = tmp_path / "d"
    dataroot = write_dataset(root)
    with pytest.raises(UserError, match="fixed-res-polyline"):
        load(dataroot, repr_type="ellipse-multiple")
    with pytest.raises(UserError, match="no such"):
        load(tmp_path / "nowhere")
    cache = root / "test/preprocessed_cache.npz"
    with np.load(cache) as arrays:
        arrays = dict(arrays)
    arrays["planes"] = arrays["planes"] + 0.01
    np.savez(cache, **arrays)
    with pytest.raises(UserError, match="other planes"):
        load(dataroot)


def test_options_reach_the_slicing(tmp_path, monkeypatch):
    given = {}
    build = dataset.build.build_or_load_cache

    def noting(folder, representation_name, **settings):
        given.update(settings)
        return build(folder, representation_name, report=settings["report"])

    monkeypatch.setattr(dataset.build, "build_or_load_cache", noting)
    dataroot = write_dataset(tmp_path / "d")
    load(dataroot, "--mesh_timeout", "7", "--dask_scheduler", "tcp://a:1", "--num_workers", "3")
    assert (given["mesh_timeout"], given["dask_scheduler"], given["num_workers"]) == (
        7.0,
        "tcp://a:1",
        3,
    )


def test_statistics_of_more_shapes_than_are_taken_at_once():
    generator = np.random.default_rng(0)
    sequences = generator.standard_normal((1100, 3, 6)).astype(np.float32) + 5
    sequences[::2, 2] = 0
    representation = REPRESENTATIONS["ellipse-multiple"]
    said = []
    mean, std = dataset._statistics(sequences, representation, "per_value", said.append)
    assert not said
    present = sequences[sequences.any(axis=2)][:, :5].astype(np.float64)
    np.testing.assert_allclose(mean, [*present.mean(axis=0), 0], rtol=1e-12)
    np.testing.assert_allclose(std, [*present.std(axis=0), 1], rtol=1e-12)
    mean, std = dataset._statistics(sequences, representation, "whole_array")
    assert mean[0] == pytest.approx(sequences.astype(float).mean(), rel=1e-12)
    assert std[0] == pytest.approx(sequences.astype(float).std(), rel=1e-12)
    sequences[..., 1] = 0.1  # never varies
    mean, std = dataset._statistics(sequences, representation, "per_value", said.append)
    assert (mean == 0).all() and (std == 1).all()
    assert len(said) == 1 and "feature 1 of the loops is the same" in said[0]


def test_ties_are_ordered_by_place():
    """Two equal legs change places from plane to plane; a larger or smaller loop stays put."""
    angles = -np.arange(32) * (2 * np.pi / 32)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    loops = [(0.3, 0.5), (0.1, 0.2), (0.1, -0.2), (0.05, -0.9), (0.1, -0.2), (0.1005, 0.2)]
    sequence = np.zeros((1, 8, 65), dtype=np.float32)
    for step, (radius, u) in enumerate(loops):
        sequence[0, step, :-1] = (radius * ring + [u, 0]).ravel()
    sequence[0, [0, 4, 6], -1] = 1
    planes = np.array([[0, 0, 0, 0, 1, 1, -1, -1]])
    before = sequence.copy()
    ordered = order_ties(sequence, planes)
    np.testing.assert_array_equal(sequence, before)
    np.testing.assert_array_equal(ordered[0, :, :-1], before[0, [0, 2, 1, 3, 4, 5, 6, 7], :-1])
    np.testing.assert_array_equal(ordered[..., -1], before[..., -1])
    np.testing.assert_array_equal(order_ties(ordered, planes), ordered)


def test_the_order_of_ties_goes_with_the_model(tmp_path):
    root = write_dataset(tmp_path / "data")
    for setting in (False, True):
        train = load_datasets(root, "fixed-res-polyline", order_ties=setting, report=id)["train"]
        folder = tmp_path / str(setting)
        folder.mkdir()
        train.info.save(folder)
        with np.load(folder / "dataset_info.npz") as arrays:
            assert ("order_ties" in arrays) == setting
        assert DatasetInfo.load(folder).order_ties is setting


def test_batches_of_like_length(tmp_path):
    root = write_dataset(tmp_path / "data", n_train=37, n_test=0)
    train = load_datasets(root, "fixed-res-polyline", report=id)["train"]
    batches = train.shuffled(4, torch.Generator().manual_seed(0), of_like_length=True)
    assert [len(batch) for batch in batches] == [4] * 9
    assert len(set(torch.cat(batches).tolist())) == 36
    spread = [np.ptp(train.lengths[batch]) for batch in batches]
    assert np.mean(np.array(spread) == 0) > 0.7
    other = train.shuffled(4, torch.Generator().manual_seed(1), of_like_length=True)
    assert not torch.equal(torch.cat(batches), torch.cat(other))


def test_loops_that_few_planes_have_are_rare(tmp_path):
    root = write_dataset(tmp_path / "data", n_train=10, n_test=0)
    train = load_datasets(root, "fixed-res-polyline", report=id)["train"]
    assert train.first_rare_number() == 2  # most planes have two loops
    train.plane_indices[:9, 3:] = -1  # now a few do
    assert train.first_rare_number() == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loop_repr_type", 77),
        ("loop_repr_type", "x"),
        ("planes", np.zeros(3)),
        ("dataset_std", np.zeros(65)),
        ("dataset_mean", np.full(65, np.nan)),
        ("n_timesteps", np.array([3, 4])),
    ],
)
def test_a_damaged_info_file_is_one_line(tmp_path, name, value):
    train = load_datasets(write_dataset(tmp_path / "data"), "fixed-res-polyline")["train"]
    train.info.save(tmp_path)
    with np.load(tmp_path / "dataset_info.npz") as arrays:
        changed = {**arrays, name: value}
    np.savez(tmp_path / "dataset_info.npz", **changed)
    with pytest.raises(UserError, match="not a dataset info file, or damaged") as caught:
        DatasetInfo.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_info_says_how_many_loops_a_plane_has_at_most(tmp_path):
    train = load(write_dataset(tmp_path / "d"))["train"]
    info = train.info
    counts = [np.bincount(row[row >= 0]) for row in train.plane_indices]
    assert info.most_loops == max(map(max, counts)) == 2
    info.save(tmp_path)
    assert DatasetInfo.load(tmp_path).most_loops == 2
    index = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2, -1])
    bounded = [0, 0, 0, -1, 1, 1, 2, 2, 2, -1, -1, -1]
    assert info.within_bounds(index).tolist() == bounded and index[3] == 0
    # A file from before this was known sets no bound.
    info.most_loops = None
    info.save(tmp_path)
    with np.load(tmp_path / "dataset_info.npz") as arrays:
        assert "most_loops" not in arrays
    older = DatasetInfo.load(tmp_path)
    assert older.most_loops is None and older.within_bounds(index).tolist() == index.tolist()
