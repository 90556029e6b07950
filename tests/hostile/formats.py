"""Every file format that the program reads, and the prompt's lines: right ones, and their reader.

A reader does with a file what the program does with it. Only a `UserError` may come out of it.
"""

import io
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
import trimesh
from bending import WORDS, bend_bytes, bend_json, bend_npz, bend_state, bend_text
from conftest import ROOT
from contour_formats import contour_formats
from file_kinds import Format
from real_session import Session, published
from small_dataset import CIRCLE, small_options, write_dataset

import loop_models_main
import loopdraw
from loop_inference_config_and_repl import InferenceREPL
from loopdraw.data.build import build_or_load_cache
from loopdraw.data.cache import read_planespec
from loopdraw.data.dataset import DatasetInfo, load_datasets
from loopdraw.data.progress import PARTIAL_FILE, SlicingProgress
from loopdraw.data.slicing_run import SlicingTask, slice_file
from loopdraw.editing.edit_files import check_edits, load_edits, save_edits
from loopdraw.editing.editor import LoopEditor
from loopdraw.editing.edits import make_edit
from loopdraw.editing.given import given_shape
from loopdraw.editing.interventions import Intervention, decode_with_intervention
from loopdraw.files import UserError
from loopdraw.loops.mesh_files import read_mesh
from loopdraw.loops.slices_files import save_slices
from loopdraw.model.prior import MixturePrior, load_prior, save_prior
from loopdraw.model.training import Trainer
from loopdraw.model.vae import load_model
from loopdraw.options import options_for, parse_options
from loopdraw.view import gallery


def mesh_formats(folder):
    """Meshes of every format that trimesh writes and we read, as `encode` and slicing do."""
    ball = trimesh.creation.icosphere(1, 0.4)
    planes = loopdraw.planes("y", 6, -0.45, 0.45)

    def read(path):
        vertices, faces = read_mesh(path)
        loopdraw.slice_mesh((vertices, faces), planes)

    def slice_one(path):
        sliced = slice_file(path, SlicingTask(planes, "fixed-res-polyline", True, 20.0))
        reason = re.match(r"\w+(Error|Exception|Warning)\b", sliced.reason or "")
        assert not reason, sliced.reason

    quads = b"v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 .2\nf 1/1 2/2 3/3 4\nf -1 -2 -3\n"
    ball_obj = ball.export(file_type="obj").encode()
    yield "mesh .obj, slicing", Format([ball_obj, quads], folder / "a.obj", bend_text, slice_one)
    for kind in ("obj", "ply", "stl", "stl_ascii", "off", "glb", "gltf"):
        whole = ball.export(file_type=kind)
        bend = bend_text if kind in ("obj", "off", "stl_ascii") else bend_bytes
        if isinstance(whole, dict):  # gltf: the text and its buffers
            for name, content in whole.items():
                (folder / name).write_bytes(content)
            whole, bend = whole["model.gltf"], bend_json
        whole = whole.encode() if isinstance(whole, str) else whole
        samples = [whole]
        if kind == "ply":
            samples.append(ball.export(file_type=kind, encoding="ascii"))
        name = "a.stl" if kind == "stl_ascii" else f"a.{kind}"
        yield f"mesh .{kind}", Format(samples, folder / name, bend, read)


def dataset_formats(folder):
    """The files of a dataset folder."""
    data = folder / "data"
    write_dataset(data, n_train=4, n_test=0)
    train = data / "train"
    spec, cache = train / "planespec.txt", train / "preprocessed_cache.npz"
    quiet = {"report": lambda line: None}
    yield (
        "planespec.txt",
        Format([spec.read_bytes()], spec, bend_text, lambda path: read_planespec(path.parent)),
    )

    def read_cache(path):
        dataset = load_datasets(path.parent.parent, "fixed-res-polyline", **quiet)["train"]
        dataset.batch([0, 1], trim=True)
        dataset.info.loops(dataset.sequences[0])

    yield "cache .npz", Format([cache.read_bytes()], cache, bend_npz, read_cache)

    sliced = folder / "sliced"
    sliced.mkdir()
    (sliced / "planespec.txt").write_bytes(spec.read_bytes())
    for i in range(3):
        trimesh.creation.icosphere(0, 0.3 + 0.05 * i).export(sliced / f"{i}.obj")
    task = SlicingTask(read_planespec(sliced), "fixed-res-polyline", True, 20.0)
    progress = SlicingProgress(sliced, task)
    progress.add(slice_file(sliced / "0.obj", task))
    progress.save_partial()
    partial = sliced / PARTIAL_FILE
    whole = partial.read_bytes()

    def go_on(path):
        try:
            build_or_load_cache(path.parent, "fixed-res-polyline", True, 1, **quiet)
        finally:
            (path.parent / "preprocessed_cache.npz").unlink(missing_ok=True)

    yield "partial cache", Format([whole], partial, bend_npz, go_on, True)


def model_formats(folder):
    """The files of a checkpoint, and what is applied to a model."""
    data, save_dir = write_dataset(folder / "data", n_train=8, n_test=0), folder / "checkpoint"
    words = small_options(data, save_dir, "--ema", "0.9", "--niter", "0", "--niter_decay", "0")
    options, quiet = parse_options(words), {"report": lambda line: None}
    save_dir.mkdir()
    loop_models_main.show_progress = lambda line: None
    streams = sys.stdout, io.StringIO()
    sys.stdout = streams[1]
    try:
        loop_models_main.train(options)
    finally:
        sys.stdout = streams[0]
    model = load_model(save_dir, **quiet)
    dataset = load_datasets(**{**options_for(load_datasets, options), **quiet})["train"]

    def read_model(path):
        load_model(save_dir, **quiet)

    for name in ("enc", "dec"):
        net = save_dir / f"{name}latest_net.pth"
        yield f"checkpoint {net.name}", Format([net.read_bytes()], net, bend_state, read_model)

    def resume(path):
        trainer = Trainer(model, dataset, save_dir, ema=0.9, seed=0)
        try:
            trainer.resume(-1)
        finally:
            model.load(save_dir, 0)

    for path in (save_dir / "declatest_optimizer.pth", save_dir / "latest_training_state.pth"):
        yield f"checkpoint {path.name}", Format([path.read_bytes()], path, bend_state, resume)

    info = save_dir / "dataset_info.npz"

    def read_info(path):
        read = DatasetInfo.load(path.parent, "fixed-res-polyline")
        load_model(save_dir, **quiet)
        read.loops(np.zeros((read.n_timesteps, read.representation.n_features)))

    yield "dataset_info.npz", Format([info.read_bytes()], info, bend_npz, read_info)

    size = model.latent_size
    mixture = MixturePrior(np.ones(2) / 2, np.zeros((2, size)), np.stack([np.eye(size)] * 2))
    priors = folder / "priors"
    priors.mkdir()
    save_prior(priors, mixture, model.decoder)

    def read_prior(path):
        prior = load_prior(path.parent, size, model.decoder, **quiet)
        prior.draw(np.random.default_rng(0), 2)

    path = priors / "prior.npz"
    yield "prior.npz", Format([path.read_bytes()], path, bend_npz, read_prior)

    path = folder / "inference-0-edit.json"
    edits = [make_edit("move", 1, 2, u=0.1), make_edit("square", 0, 1, degrees=20.0)]
    edits.append(make_edit("replace", 2, 2, loops=[CIRCLE.tolist()]))
    save_edits(path, model.info.representation, np.zeros(size), edits, {1: np.zeros(3)})
    of_latent = path.read_bytes()
    beside = [(0.05 * CIRCLE + [0.6, 0.0]).tolist()]
    edits += [make_edit("insert", 1, 2, loops=beside, v=0.01), make_edit("remove", 2, 3, loop=0)]
    given = given_shape(model, [[0.3 * CIRCLE, 0.1 * CIRCLE]] * 4, np.zeros(size))
    save_edits(path, model.info.representation, np.zeros(size), edits, None, 2, given)

    def read_edits(path):
        edit_file = load_edits(path)
        check_edits(edit_file, model.info)
        given = edit_file.given_shape(model)
        LoopEditor(model, np.zeros(size), edit_file.edits, given, edit_file.after).shape  # noqa: B018

    samples = [of_latent, path.read_bytes()]
    yield "edit list .json", Format(samples, path, bend_json, read_edits)
    yield "edit list, text", Format(samples, path, bend_text, read_edits)

    function = (
        "import numpy as np\nimport torch\n"
        "def loop_generation_intervention(dataset, ts_i_state, ts):\n"
        "    i = ts_i_state()\n    ts_i_state.modify(lambda i: i + 1)\n"
        "    if i == 2 :\n        return ts * 0.5 , lambda z: z + 0.1\n    return ts\n"
    )

    def intervene(path):
        intervention = Intervention(path)
        intervention.reload()
        with intervention.explaining_errors():
            decode_with_intervention(model, np.zeros(size), intervention.function)

    path = folder / "intervention.py"
    yield "intervention .py", Format([function.encode()], path, bend_text, intervene)


def shape_formats(folder):
    """What `--save` writes, read again."""
    planes = loopdraw.planes("y", 5, -0.4, 0.4)
    loops = [[0.3 * CIRCLE, 0.1 * CIRCLE], [0.3 * CIRCLE], [], [0.2 * CIRCLE], [0.1 * CIRCLE]]
    slices = folder / "inference-0-slices.npz"
    save_slices(slices, planes, loops)
    trimesh.creation.icosphere(1, 0.4).export(folder / "inference-0.obj")
    settings = gallery.Settings()

    def read_scene(path):
        gallery.load_scene(folder / "inference-0.obj", settings)

    example = ROOT / "tests/data/slices-example/inference-gt2-slices.npz"
    samples = [slices.read_bytes(), example.read_bytes()]
    yield "slices .npz", Format(samples, slices, bend_npz, read_scene)
    obj = folder / "inference-0.obj"
    yield "saved shape .obj", Format([obj.read_bytes()], obj, bend_bytes, read_scene)


class Silent(InferenceREPL):
    """A prompt that raises what is no user's mistake, and runs only short queues."""

    def fail_with(self, what, error):
        if not isinstance(error, UserError):
            raise error
        assert "\n" not in str(error), "an error of several lines"

    def fail(self, text):
        assert "\n" not in text, "an error of several lines"

    def onecmd(self, line):
        if line.strip().startswith("run") and len(self.queue) > 3:
            line = "queue clear"
        return super().onecmd(line)


LINES = """\
submit sample 1 --save
submit sample 2 --save --format glb,svg,json
submit gt 0 --save
submit auto-reco 1 --use_enc_sigma
submit tf-reco 2
submit interp 2 ? $a
submit interp 3 $last_z ||z.txt
submit decode ? --intervene
submit decode |z.txt --edit |edit.json
submit decode $a
submit seq-viz $last_pred_seq 0 4
run
run all
run 2
queue
queue pop
assign a ?
assign b |z.txt
assign s $last_pred_seq
variables
print last_z
print a z.txt
print a ||out.txt
seed 3
help submit sample
help latents
edit ?
edit $a --edit |edit.json
encode m m.obj --no-refine
quit
EOF""".splitlines()


def prompt_formats(folder):
    """The prompt: its lines, and the latents it reads."""
    words = [*published(folder), "--reco_resolution", "12"]
    session = Session(words)
    session.items.train_set  # noqa: B018  its cache is read now
    (folder / "run").mkdir()
    np.savetxt(folder / "run/z.txt", np.zeros(8))
    trimesh.creation.icosphere(0, 0.4).export(folder / "run/m.obj")

    def repl():
        return Silent(session.repl.settings, session.engine, stdout=io.StringIO())

    def perform(path):
        prompt = repl()
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            prompt.onecmd(prompt.precmd(line))
        if session.folder.exists():
            shutil.rmtree(session.folder)

    def bend_lines(data, rng):
        lines = [str(line) for line in rng.choice(LINES, rng.integers(1, 7))]
        for _ in range(rng.integers(0, 4)):
            at = rng.integers(len(lines))
            parts = lines[at].split(" ")
            word = rng.integers(len(parts))
            other = str(rng.choice(WORDS))[:500]
            # A word of nothing but a number is how much to do: that may take long, rightly.
            parts[word] = other if rng.random() < 0.7 else parts[word] + other
            lines[at] = " ".join(parts)
        return "\n".join(lines).encode("utf-8", "replace")

    path = folder / "run/lines.txt"
    yield "prompt's lines", Format([b""], path, bend_lines, perform)

    def read_latent(path):
        prompt = repl()
        value = prompt.reader.operand(f"|{path}", prompt.reader.check_either).value
        prompt.reader.check_latent(value, "z")

    text = (folder / "run/z.txt").read_bytes()
    yield "latent .txt", Format([text], folder / "run/latent.txt", bend_text, read_latent)


def option_formats(folder):
    path = folder / "optfile.txt"
    samples = [
        (ROOT / name).read_bytes() for name in ("vases-optfile.txt", "demo-vases-optfile.txt")
    ]

    def read(path):
        parse_options(["--optfile", str(path)], quiet=True)

    yield "optfile", Format(samples, path, bend_text, read)


GROUPS = {
    "meshes": mesh_formats,
    "datasets": dataset_formats,
    "models": model_formats,
    "shapes": shape_formats,
    "contours": contour_formats,
    "prompt": prompt_formats,
    "options": option_formats,
}


def formats_of(group, folder):
    """The formats of a group, with their files in a folder."""
    torch.set_num_threads(1)
    folder = Path(folder) / group
    folder.mkdir(parents=True)
    return dict(GROUPS[group](folder))
