"""What LoopDraw does, in a minute or two and with nothing to download: `make demo`.

Samples, interpolates, reconstructs and edits vases with one trained model of this repository,
samples sofas with the other, and draws them. Each step is shown before it runs, as a command or a
line of Python that you can type yourself. The pictures, and pages to open in a browser, go to
`demo_output/`, which is made anew. The shapes are saved beside the models, as always.
"""

import os
import shutil
from pathlib import Path

import numpy as np

import loopdraw
from loopdraw.demo import dataset
from loopdraw.editing.edit_files import load_edits
from loopdraw.files import run_script
from loopdraw.surface.outputs import SUFFIXES, claimed_stem
from loopdraw.threads import wait_briefly

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = Path("demo_output")
CHECKPOINT, SOFAS = Path("checkpoints/demo-vases"), Path("checkpoints/demo-sofas")
SHAPES = "inference"  # a folder beside the model
EDIT = "demo-vases-edit.json"  # the latent of a vase, and one loop made smaller and moved aside
TEST_MESH = OUTPUT / "vases/test/vase-0000.obj"  # the model was not trained on it
SEED = 1
N_SAMPLES, N_INTERPOLATED, N_SOFAS = 12, 8, 6
CELL_SIZE = (440, 500)  # pixels of a shape in a gallery
EDIT_SIZE = (700, 800)


def main():
    os.chdir(ROOT)
    wait_briefly()
    shutil.rmtree(OUTPUT, ignore_errors=True)
    make_meshes(TEST_MESH.parent.parent)

    show(f'model = loopdraw.load("{CHECKPOINT}")')
    model = loopdraw.load(CHECKPOINT)
    samples = sample(model, N_SAMPLES)
    interpolated = interpolate(model)
    reconstructed = reconstruct(model)
    before, after = edit(model)
    show(f'model = loopdraw.load("{SOFAS}")')
    sofas = sample(loopdraw.load(SOFAS), N_SOFAS, SOFAS)

    print("\nDrawing ...", flush=True)
    pictures = {
        "twelve samples": draw_gallery(
            [shape.scene() for shape in samples], "samples.png", columns=6, framing="each"
        ),
        "six sofas": draw_gallery(
            [shape.scene() for shape in sofas], "sofas.png", columns=3, framing="each"
        ),
        "from one vase to another": draw_gallery(
            [shape.scene() for shape in interpolated], "interpolation.png", N_INTERPOLATED
        ),
        "a mesh the model has not seen, and roughly what it looks like to it": draw_gallery(
            [scene_of_mesh(TEST_MESH), reconstructed.scene()], "reconstruction.png", columns=2
        ),
        "one loop made smaller and moved (red), and what follows (pink)": draw_edit(
            before, after, "edit.png"
        ),
    }
    pages = {
        "the twelve samples, in a browser": save_gallery(samples, "samples.html"),
        "the edit, in a browser": after.save(OUTPUT / "edit.html"),
    }
    print("\nLook at")
    for what, path in (pictures | pages).items():
        print(f"  {path!s:<32} {what}")
    print(
        f"The shapes are in {CHECKPOINT / SHAPES}/ and {SOFAS / SHAPES}/; "
        "remove there what you have seen."
    )


def show(line):
    """Print a line of Python before it runs."""
    print(f"\n>>> {line}", flush=True)


# ----------------------------------------------------------------------------------------- shapes


def make_meshes(folder):
    """Make a few vases, as the command that is shown would."""
    words = ["vases", str(folder), "--n_train", "1", "--n_test", "4"]
    print(f"\n$ python -m loopdraw.demo.dataset {' '.join(words)}", flush=True)
    dataset.main(words)


def sample(model, n, folder=CHECKPOINT):
    """Shapes from random latents."""
    show(f"model.sample({n}, seed={SEED})")
    return saved("sample", model.sample(n, seed=SEED), folder)


def interpolate(model):
    """Shapes on the way from one random vase to another."""
    from loopdraw.model.latents import shape_generator

    # At the prompt, `submit interp 8 ? ?` draws these two latents after the samples.
    a, b = model.network.prior.draw(shape_generator(SEED, N_SAMPLES), 2)
    show(f"model.interpolate(a, b, {N_INTERPOLATED})  # two random vases")
    return saved("interpolate", model.interpolate(a, b, N_INTERPOLATED))


def reconstruct(model):
    """A mesh as the model sees it."""
    show(f'model.encode("{TEST_MESH}")')
    return saved("encode", [model.encode(TEST_MESH)])[0]


def edit(model):
    """A shape, and the same one with a loop changed."""
    saved_edit = load_edits(ROOT / EDIT)
    show(f'vase = model.decode(z)  # the latent in "{EDIT}"')
    before = model.decode(saved_edit.latent)
    saved("decode", [before])
    show(f"vase.edit(*edits)  # {'; '.join(each.describe() for each in saved_edit.edits)}")
    after = before.edit(*saved_edit.edits)
    saved("edit", [after])
    return before, after


def saved(what, shapes, folder=CHECKPOINT):
    """Save shapes beside their model and say so; returns them."""
    for number, shape in enumerate(shapes, 1):
        with claimed_stem(folder / SHAPES) as stem:
            for suffix in SUFFIXES:
                path = shape.save(f"{stem}{suffix}")
        counts = [len(loops) for loops in shape.loops]
        print(
            f"[{number}/{len(shapes)}] {what}: {sum(counts)} loops on {np.count_nonzero(counts)} "
            f"planes, saved {path}",
            flush=True,
        )
    return shapes


# --------------------------------------------------------------------------------------- pictures


def scene_of_mesh(path):
    """The scene.Scene of a mesh file."""
    from loopdraw.view.gallery import Settings, load_scene

    return load_scene(path, Settings())


def draw_gallery(scenes, name, columns, framing="together"):
    """Draw scenes into one picture in `demo_output/`; returns its path."""
    from loopdraw.view.gallery import Settings, draw, place_cameras
    from loopdraw.view.pictures import contact_sheet, save_png

    settings = Settings(image_size=CELL_SIZE, framing=framing, ground_shadow=True)
    cameras = place_cameras(scenes, settings)
    pictures = [
        draw(scene, camera, settings) for scene, camera in zip(scenes, cameras, strict=True)
    ]
    save_png(OUTPUT / name, contact_sheet(pictures, columns))
    return OUTPUT / name


def draw_edit(before, after, name):
    """Draw a shape and its edit beside each other; returns the path of the picture."""
    from loopdraw.view.pictures import contact_sheet, save_png
    from loopdraw.view.scene import Look, fit_camera
    from loopdraw.view.viewer import render_image

    scenes = [before.scene(), after.scene()]
    look = Look(ground_shadow=True)
    camera = fit_camera(np.concatenate([scene.points() for scene in scenes]), EDIT_SIZE)
    pictures = [render_image(scene, camera, EDIT_SIZE, look) for scene in scenes]
    save_png(OUTPUT / name, contact_sheet(pictures, 2))
    return OUTPUT / name


def save_gallery(shapes, name):
    """Write sampled shapes as a page for the browser; returns its path."""
    from loopdraw.view.html.page import save_page

    captions = [str(shape.number) for shape in shapes]
    note = f"Made by `model.sample({len(shapes)}, seed={SEED})` in `make demo`"
    save_page(OUTPUT / name, [shape.scene() for shape in shapes], "Samples", note, captions)
    return OUTPUT / name


if __name__ == "__main__":
    run_script(main)
