"""What LoopDraw does, in a minute or two and with nothing to download: `make demo`.

Samples, interpolates, reconstructs and edits vases with the trained model of this repository,
through the prompt, and draws them. Every step is a command that you can type yourself; each is
shown before it runs. Pictures land in `demo_output/`, which is made anew; the shapes, as always,
beside the model.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from loopdraw.files import UserError, run_script

HERE = Path(__file__).parent
OUTPUT = Path("demo_output")
OPTFILE = "demo-vases-optfile.txt"
EDIT = "demo-vases-edit.json"  # the latent of a vase, and one loop scaled by 0.3 and moved outwards
TEST_MESH = OUTPUT / "vases/test/vase-0000.obj"  # the model was not trained on it
N_SAMPLES, N_INTERPOLATED = 12, 8
COMMANDS = "\n".join(
    [
        "seed 1",
        f"submit sample {N_SAMPLES} --save",
        f"submit interp {N_INTERPOLATED} ? ? --save",
        f"encode vase {TEST_MESH}",
        "submit decode $vase --save",
        f"submit decode |{EDIT} --save",
        f"submit decode |{EDIT} --edit {EDIT} --save",
        "run all\n",
    ]
)


def main():
    os.chdir(HERE)
    shutil.rmtree(OUTPUT, ignore_errors=True)
    dataset = TEST_MESH.parent.parent
    python("-m", "loopdraw.demo.dataset", "vases", str(dataset), "--n_train", "1", "--n_test", "4")
    printed = python("loop_models_inference.py", "--optfile", OPTFILE, commands=COMMANDS)
    meshes = [Path(path) for path in re.findall(r"saved (.*\.obj)$", printed, re.MULTILINE)]
    samples, meshes = meshes[:N_SAMPLES], meshes[N_SAMPLES:]
    interpolated, meshes = meshes[:N_INTERPOLATED], meshes[N_INTERPOLATED:]
    reconstructed, before, after = meshes
    print("\nDrawing ...", flush=True)
    os.environ["NO_GUI"] = "1"  # python polyscope_screenies.py asks for a view where it can
    pictures = {
        "twelve samples": draw_gallery(samples, OUTPUT / "samples.png", columns=6, framing="each"),
        "from one vase to another": draw_gallery(
            interpolated, OUTPUT / "interpolation.png", columns=N_INTERPOLATED
        ),
        "a mesh the model has not seen, and roughly what it looks like to it": draw_gallery(
            [TEST_MESH, reconstructed], OUTPUT / "reconstruction.png", columns=2
        ),
        "one loop moved (red), and what follows (pink)": draw_edit(
            before, after, OUTPUT / "edit.png"
        ),
    }
    print("\nLook at")
    for what, picture in pictures.items():
        print(f"  {picture!s:<32} {what}")
    print(f"The shapes are in {before.parent}/; remove there what you have seen.")


def python(*words, commands=None):
    """Run a script with this Python, showing the command and what it prints.

    Parameters
    ----------
    words : script and arguments
    commands : str for its stdin, or None

    Returns
    -------
    str : what it printed
    """
    shown = f"$ python {' '.join(words)}"
    if commands:
        escaped = commands.strip().replace("\n", "\\n").replace("$", "\\$")
        shown = f'$ printf "{escaped}" | NO_POLYSCOPE=1 {shown[2:]}'
    print(f"\n{shown}", flush=True)
    process = subprocess.Popen(
        [sys.executable, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_POLYSCOPE": "1"},
    )
    process.stdin.write(commands or "")
    process.stdin.close()
    printed = []
    for line in process.stdout:
        print(line, end="", flush=True)
        printed.append(line)
    if process.wait():
        raise UserError(f"{words[0]}: stopped with status {process.returncode}; see above")
    return "".join(printed)


def draw_gallery(meshes, path, columns, framing="together"):
    """Draw meshes with their loops into one picture; returns its path."""
    import polyscope_screenies

    polyscope_screenies.IMAGE_SIZE = (440, 500)
    polyscope_screenies.FRAMING = framing
    polyscope_screenies.GROUND_SHADOW = True
    polyscope_screenies.GALLERY = str(path.resolve())
    polyscope_screenies.GALLERY_COLUMNS = columns
    list(polyscope_screenies.take_pictures([str(mesh) for mesh in meshes]))
    return path


def draw_edit(before, after, path):
    """Draw a shape and its edit beside each other; returns the path of the picture."""
    import numpy as np

    import polyscope_screenies
    from loopdraw.editing.edit_files import load_edits
    from loopdraw.view.camera import fit_camera
    from loopdraw.view.pictures import contact_sheet, save_png
    from loopdraw.view.scene import Look
    from loopdraw.view.viewer import render_image

    scenes = [polyscope_screenies.read_scene(before)]
    polyscope_screenies.HIGHLIGHTED_LOOPS = sorted({edit.first for edit in load_edits(EDIT).edits})
    polyscope_screenies.LOOPS_ABOVE_EDIT = "color"
    polyscope_screenies.UNTOUCHED_SLICES = before.with_name(f"{before.stem}-slices.npz")
    scenes.append(polyscope_screenies.read_scene(after))
    size, look = (700, 800), Look(mesh_opacity=polyscope_screenies.MESH_OPACITY, ground_shadow=True)
    camera = fit_camera(np.concatenate([scene.points() for scene in scenes]), size)
    save_png(path, contact_sheet([render_image(scene, camera, size, look) for scene in scenes], 2))
    return path


if __name__ == "__main__":
    run_script(main)
