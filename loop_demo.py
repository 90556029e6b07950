"""The whole job in a few minutes, with nothing to download: `make demo`.

Makes vases as meshes, slices them, trains a small model, samples and interpolates shapes through
the REPL, and draws them. Every step is a command that you can type yourself; each is printed before
it runs. Everything lands in `demo_output/`, which is made anew.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from loop_files import UserError, run_script

HERE = Path(__file__).parent
OUTPUT = Path("demo_output")
OPTFILE = "demo-optfile.txt"
N_SHOWN, N_SAMPLES, N_INTERPOLATED = 8, 8, 6
COMMANDS = "\n".join(
    [
        "seed 1",
        *(f"submit gt {i} --save" for i in range(N_SHOWN)),
        f"submit sample {N_SAMPLES} --save",
        f"submit interp {N_INTERPOLATED} ? ? --save",
        "run all\n",
    ]
)


def main():
    os.chdir(HERE)
    shutil.rmtree(OUTPUT, ignore_errors=True)
    python("loop_demo_dataset.py", "vases", f"{OUTPUT}/dataset", "--n_train", "24", "--n_test", "4")
    python("loop_models.py", "--optfile", OPTFILE)
    python("loop_models_main.py", "--optfile", OPTFILE)
    python("loop_models_inference.py", "--optfile", OPTFILE, commands=COMMANDS)
    inference = OUTPUT / "model/inference"
    meshes = [inference / f"inference-{i}.obj" for i in range(N_SAMPLES + N_INTERPOLATED)]
    dataset = [inference / f"inference-gt{i}.obj" for i in range(N_SHOWN)]
    pictures = [
        draw(dataset, OUTPUT / "dataset.png", columns=4),
        draw(meshes[:N_SAMPLES], OUTPUT / "samples.png", columns=4),
        draw(meshes[N_SAMPLES:], OUTPUT / "interpolation.png", columns=N_INTERPOLATED),
    ]
    print("\nShapes of the dataset, sampled ones, and shapes between two of them:")
    for picture in pictures:
        print(f"  {picture}")
    print(f"The meshes, loops and latents are in {inference}/")


def python(*words, commands=None):
    """Run a script with this Python, showing the command; with `commands` on its stdin."""
    shown = f"$ python {' '.join(words)}"
    if commands:
        escaped = commands.strip().replace("\n", "\\n")
        shown = f'$ printf "{escaped}" | NO_POLYSCOPE=1 {shown[2:]}'
    print(f"\n{shown}", flush=True)
    environment = {**os.environ, "NO_POLYSCOPE": "1"} if commands else None
    finished = subprocess.run([sys.executable, *words], input=commands, text=True, env=environment)
    if finished.returncode:
        raise UserError(f"{words[0]}: stopped with status {finished.returncode}; see above")


def draw(meshes, path, columns):
    """Draw meshes with their loops into one picture; returns its path."""
    import polyscope_screenies

    print(f"\n$ NO_GUI=1 python polyscope_screenies.py {meshes[0]} ...", flush=True)
    os.environ["NO_GUI"] = "1"
    polyscope_screenies.IMAGE_SIZE = (500, 500)
    polyscope_screenies.GROUND_SHADOW = True
    polyscope_screenies.GALLERY = str(path.resolve())
    polyscope_screenies.GALLERY_COLUMNS = columns
    list(polyscope_screenies.take_pictures([str(mesh) for mesh in meshes]))
    return path


if __name__ == "__main__":
    run_script(main)
