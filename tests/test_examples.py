"""The numbered examples and the notebook, run as their readers run them, with small settings."""

import runpy
import shutil
import sys

import numpy as np
import pytest
import scipy.spatial
import trimesh
from conftest import ROOT
from PIL import Image
from small_dataset import write_dataset

EXAMPLES = ROOT / "examples"
CHECKPOINT = ROOT / "checkpoints" / "demo-vases"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run an example in an empty folder; the names of the files that it wrote."""
    monkeypatch.chdir(tmp_path)

    def run(name, *words):
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return {path.name for path in (tmp_path / "example_output").glob("*")}

    return run


def check_picture(path):
    """The picture shows something, and all of it: nothing touches its border."""
    picture = np.asarray(Image.open(path))
    assert (picture.min(axis=(0, 1)) < 200).all()
    for border in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert (border == 255).all()


def test_examples_are_short_and_say_what_they_write():
    paths = sorted(EXAMPLES.glob("*.py"))
    assert [path.name[:2] for path in paths] == ["01", "02", "03", "04", "05", "06"]
    for path in paths:
        text = path.read_text()
        assert text.count("\n") <= 40, path
        docstring = text.split('"""')[1]
        assert f"python examples/{path.name}" in docstring and "example_output" in docstring


def test_sample(run, tmp_path):
    assert run("01_sample.py", "example_output", 1) == {"vase-0.glb", "vase-0.png"}
    check_picture(tmp_path / "example_output" / "vase-0.png")


def test_encode_and_edit(run, tmp_path):
    made = run("02_encode_and_edit.py")
    assert made == {"my-vase.obj", "encoded.glb", "encoded.png", "edited.glb", "edited.png"}
    folder = tmp_path / "example_output"
    encoded, edited = (trimesh.load_mesh(folder / f"{n}.glb") for n in ("encoded", "edited"))
    distances, _ = scipy.spatial.cKDTree(encoded.vertices).query(edited.vertices)
    assert distances.max() > 0.05  # the edited loop was moved by 0.1


def test_interpolate(run, tmp_path):
    made = run("03_interpolate.py", "example_output", 2)
    assert made == {"step-0.glb", "step-1.glb", "interpolation.png"}
    check_picture(tmp_path / "example_output" / "interpolation.png")


def test_slice_and_rebuild(run, tmp_path, capsys):
    assert run("04_slice_and_rebuild.py") == {
        *("slices.svg", "slices.json", "rebuilt.glb", "rebuilt.png")
    }
    before, after = capsys.readouterr().out.split("volume ")[1].split(", rebuilt ")
    assert float(after) == pytest.approx(float(before), rel=0.03)
    check_picture(tmp_path / "example_output" / "rebuilt.png")


def test_train_on_a_folder_of_meshes(run, tmp_path):
    import loopdraw

    assert run("05_train.py", "example_output", 1) == {"trained-on", "trained"}
    model = loopdraw.load(tmp_path / "example_output" / "trained")
    assert len(model.planes) == 32 and len(model.sample(2, seed=0)) == 2


def test_evaluate(run, tmp_path):
    dataset = write_dataset(tmp_path / "dataset", n_train=3, n_test=2, eos=True)
    run("05_train.py", "example_output", 20, dataset)
    made = run("06_evaluate.py", "example_output", 2, "example_output/trained", dataset)
    assert made == {"trained", "evaluation.json", "evaluation.png", "samples-48.png"}


def test_notebook(tmp_path):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    path = EXAMPLES / "quickstart.ipynb"
    assert path.stat().st_size < 300_000
    folder = tmp_path / "examples"
    folder.mkdir()
    shutil.copytree(CHECKPOINT, tmp_path / "checkpoints" / "demo-vases")
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    pages = [
        output["data"]["text/html"]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "text/html" in output.get("data", {})
    ]
    assert len(pages) == 2 and all("data:image/png;base64," in page for page in pages)
    made = {path.name for path in (tmp_path / "example_output").iterdir()}
    assert made == {"edited-vase.glb", "edited-vase.svg"}
