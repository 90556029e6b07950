"""The edit window's controls without a window, and the REPL commands around it."""

import json
import re

import numpy as np
import pytest
import torch
import trimesh
from real_session import Session, published
from small_dataset import small_options, write_dataset
from small_model import EGG, LATENT_SIZE, POLYLINE, read_function, small_model

from loopdraw.editing.edit_files import load_edits
from loopdraw.editing.editor import LoopEditor
from loopdraw.editing.edits import make_edit
from loopdraw.editing.interventions import decode_with_intervention
from loopdraw.editing.session import EditSession
from loopdraw.evaluation.own_mesh import encode_mesh
from loopdraw.files import UserError
from loopdraw.loops.mesh_files import fit_to_unit, read_mesh
from loopdraw.loops.representations import eos_timestep, loops_to_sequence
from loopdraw.loops.slices_files import load_slices
from loopdraw.loops.slicing import slice_mesh
from loopdraw.model.vae import LoopSeqEncoderDecoderModel
from loopdraw.surface.reconstruction import reconstruct_mesh
from loopdraw.surface.workers import LatestSurface
from loopdraw.view import edit_animation
from loopdraw.view.edit_animation import make_scenes


def read_latent(word):
    if word != "?":
        raise UserError(f"no variable {word}")
    return np.arange(float(LATENT_SIZE))


def read_loops(word):
    if word != "$egg":
        raise UserError(f"no variable {word}")
    return [EGG, 0.5 * EGG, 0.25 * EGG]


@pytest.fixture
def edit_session(tmp_path):
    return EditSession(small_model(), np.zeros(LATENT_SIZE), [], tmp_path, read_latent, read_loops)


# -------------------------------------------------------------------------------------- controls


def test_picking_stays_within_the_shape(edit_session):
    n_loops = edit_session.editor.shape.n_loops
    edit_session.pick(4, 7)
    assert (edit_session.first, edit_session.last) == (4, 7)
    edit_session.pick(n_loops + 5)
    assert (edit_session.first, edit_session.last) == (n_loops - 1, n_loops - 1)
    loops = edit_session.editor.shape.loops_in_space(edit_session.editor.info.planes)
    edit_session.pick_nearest(loops[3][5] + 1e-4)
    assert (edit_session.first, edit_session.last) == (3, 3)


def test_adjusting_goes_on_with_the_edit_of_these_loops(edit_session):
    edit_session.pick(4)
    edit_session.adjust("move", part_of=1, u=0.1)
    edit_session.adjust("move", part_of=1, v=0.2)
    edit_session.adjust("scale", part_of=2, u=2.0)
    edit_session.pick(5)
    assert edit_session.values("move") == {"u": 0.0, "v": 0.0}
    edit_session.adjust("move", part_of=3, u=0.3)
    assert list(edit_session.editor.edits) == [
        make_edit("move", 4, 4, u=0.1, v=0.2),
        make_edit("scale", 4, 4, u=2.0),
        make_edit("move", 5, 5, u=0.3),
    ]
    for _ in range(3):
        edit_session.editor.undo()
    assert not edit_session.editor.can_undo


def test_dragging_adds_up_and_acts_on_what_is_seen(edit_session):
    edit_session.pick(4, 6)
    for _ in range(3):
        edit_session.drag(1, move=(0.1, 0.0))
    edit_session.drag(2, degrees=170.0)
    edit_session.drag(2, degrees=20.0)
    edit_session.drag(3, scale=(2.0, 1.0))
    edit_session.drag(3, scale=(1.5, 1.0))
    # The loop has been scaled since it was turned; turning the first edit further would be another
    # thing.
    edit_session.drag(4, degrees=10.0)
    edit_session.drag(5, move=(0.1, 0.5))
    kinds = [(e.kind, *(round(x, 6) for x in e.values.values())) for e in edit_session.editor.edits]
    assert kinds == [
        ("move", 0.4, 0.5),
        ("rotate", -170.0),
        ("scale", 3.0, 1.0),
        ("rotate", 10.0),
    ]


def test_squares_and_replacements(edit_session):
    edit_session.pick(2, 3)
    edit_session.make_square()
    edit_session.make_square()
    assert len(edit_session.editor.edits) == 1
    edit_session.replace("$egg", 1)
    loops = edit_session.editor.edits[1].values["loops"]
    np.testing.assert_array_equal(loops[0], 0.5 * EGG)
    with pytest.raises(UserError, match=r"\$egg has 3 loops"):
        edit_session.replace("$egg", 2)
    with pytest.raises(UserError, match="no variable"):
        edit_session.replace("$other", 0)
    edit_session.read_loops = lambda word: [np.ones((9, 2))] * 5
    with pytest.raises(UserError, match=r"\$specks: a loop in it is a single point"):
        edit_session.replace("$specks", 0)
    assert len(edit_session.editor.edits) == 2


def test_the_latent_controls(edit_session):
    edit_session.set_blend_end("?")
    edit_session.blend(0.5, part_of=1)
    np.testing.assert_allclose(edit_session.editor.latent, 0.5 * np.arange(LATENT_SIZE))
    edit_session.blend(0.0, part_of=1)
    np.testing.assert_array_equal(edit_session.editor.latent, 0)
    edit_session.set_dimension(2, 1.5)
    np.testing.assert_array_equal(edit_session.editor.latent, [0, 0, 1.5, 0])
    for _ in range(4):
        edit_session.search_dimensions()
        if edit_session.dimensions is not None:
            break
    assert sorted(edit_session.dimensions) == list(range(LATENT_SIZE))


def test_saving(edit_session, tmp_path):
    edit_session.pick(3, 4)
    edit_session.adjust("move", u=0.1)
    path = edit_session.save(["glb", "sheet"])
    function = edit_session.save_intervention()
    assert path == tmp_path / "inference-0.obj"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "inference-0-edit.json",
        "inference-0-intervention.py",
        "inference-0-latent.txt",
        "inference-0-slices.npz",
        "inference-0-slices.svg",
        "inference-0.glb",
        "inference-0.obj",
    ]
    editor = edit_session.editor
    assert load_edits(tmp_path / "inference-0-edit.json").edits == list(editor.edits)
    decoded = decode_with_intervention(editor.model, editor.latent, read_function(function))
    np.testing.assert_array_equal(decoded, editor.shape.sequence)
    # Another state is another number; the same one is not.
    edit_session.adjust("move", u=0.2)
    assert edit_session.save_edit_list().name == "inference-1-edit.json"
    with edit_session.stem() as stem:
        assert stem.name == "inference-1"


# --------------------------------------------------------------------------------------- surfaces


def wait_for(surfaces, seconds=60):
    import time

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = surfaces.poll()
        if answer is not None:
            return answer
        time.sleep(0.005)
    raise AssertionError("no surface came")


def test_the_latest_surface_wins_and_failures_are_told(edit_session):
    planes = edit_session.editor.info.planes
    loops = edit_session.editor.shape.loops_by_plane
    with LatestSurface() as surfaces:
        assert surfaces.poll() is None
        for resolution in (8, 10, 12):
            surfaces.request(planes, loops, resolution)
        first, latest = wait_for(surfaces), wait_for(surfaces)
        assert first[1] == latest[1] == "" and not surfaces.busy
        for mesh, resolution in ((first[0], 8), (latest[0], 12)):
            np.testing.assert_array_equal(mesh[0], reconstruct_mesh(planes, loops, resolution)[0])
        surfaces.request(planes, [[] for _ in planes], 8)
        mesh, error = wait_for(surfaces)
        assert mesh is None and error.startswith("no surface: ")
        for process in surfaces._pool._processes.values():
            process.kill()
        surfaces.request(planes, loops, 8)
        mesh, error = wait_for(surfaces)
        assert mesh is None and "ended" in error
        surfaces.request(planes, loops, 8)
        assert wait_for(surfaces)[1] == ""


# ------------------------------------------------------------------------------- commands: editing


@pytest.fixture
def session(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Session(published(tmp_path))


def test_a_saved_edit_gives_the_loops_of_the_window(session):
    windows = []

    def edit_window(edit_session, title):
        edit_session.pick(2, 3)
        edit_session.adjust("move", u=0.2)
        edit_session.replace("$a_shape", 1)
        edit_session.save()
        windows.append(edit_session.editor.shape)
        return True

    session.engine.edit_window = edit_window
    session.do("submit decode ?", "run", "assign a_shape $last_pred_seq")
    printed = session.do("edit ?")
    shape = windows[0]
    assert "2 edits, kept in" in printed and "inference-0-edit.json" in printed
    np.testing.assert_array_equal(session["last_pred_seq"], shape.sequence)
    session.do(
        "submit decode $last_z --edit ||inference/inference-0-edit.json --save",
        "submit decode ||inference/inference-0-edit.json --edit ||inference/inference-0-edit.json",
        "run all",
    )
    np.testing.assert_array_equal(session["last_pred_seq"], shape.sequence)
    saved = [load_slices(session.folder / f"inference-{number}-slices.npz")[1] for number in (0, 1)]
    for of_window, of_script in zip(*saved, strict=True):
        np.testing.assert_array_equal(of_window, of_script)
    name = "inference-{}-edit.json"
    texts = [(session.folder / name.format(number)).read_text() for number in (0, 1)]
    assert texts[0] == texts[1]
    # Opened again, it goes on from there.
    session.engine.edit_window = lambda edit_session, title: windows.append(edit_session) or True
    session.do("edit ||inference/inference-0-edit.json")
    assert len(windows[1].editor.edits) == 2
    np.testing.assert_array_equal(session["last_pred_seq"], shape.sequence)


def test_edits_outlive_a_ctrl_c(session, capsys):
    def edit_window(edit_session, title):
        edit_session.pick(2, 3)
        edit_session.adjust("move", u=0.2)
        raise KeyboardInterrupt

    session.engine.edit_window = edit_window
    assert "stopped; 1 edits, kept in" in session.fail(capsys, "edit ?")
    assert len(load_edits(session.folder / "inference-0-edit.json").edits) == 1


def test_the_window_reads_latents_and_loops_as_the_repl_does(session):
    session.do("submit decode ? --save", "run")
    n_loops = int(np.any(session["last_pred_seq"] != 0, axis=1).sum())

    def edit_window(edit_session, title):
        for word in ("$last_pred_seq", "||inference/inference-0-slices.npz"):
            assert 2 < len(edit_session.read_loops(word)) <= n_loops
        np.testing.assert_array_equal(edit_session.read_latent("$last_z"), session["last_z"])
        assert (edit_session.read_latent("?") != edit_session.read_latent("?")).any()
        for word in ("$nothing", "||nowhere.npz", "word"):
            with pytest.raises(UserError):
                edit_session.read_loops(word)
        return True

    session.engine.edit_window = edit_window
    assert "no edits" in session.do("edit $last_z")


@pytest.mark.parametrize(
    "line, reason",
    [
        ("edit ?", "no window can be opened here"),
        ("edit", "required: <z>"),
        ("edit $nothing", "no variable"),
        ("edit ? --edit nowhere.json", "nowhere.json: cannot be read"),
        ("submit decode ? --edit nowhere.json", "nowhere.json: cannot be read"),
        ("submit decode ? --edit other.json --intervene", "exclude each other"),
        ("submit sample 2 --edit other.json", "unrecognized arguments"),
        ("submit decode ? --format glb", "goes with --save"),
        ("submit decode ? --format gbl", "no format 'gbl'; write some of glb"),
        ("submit decode |" + 5000 * "a", "aaa: cannot be read (File name too long)"),
        ("submit decode ? --edit " + 5000 * "a", "aaa: cannot be read (File name too long)"),
        ("submit decode ? --save --format dxf", "'dxf'"),
        ("encode a", "required: <mesh file>"),
        ("encode last_z a.obj", "set by runs"),
        ("encode a nowhere.stl", "nowhere.stl: no such file"),
        ("encode a damaged.glb --fit", "damaged.glb: cannot be read as a mesh"),
        ("encode a far.stl", "far.stl: no plane of the model meets it; add --fit, which"),
    ],
)
def test_mistakes_are_one_line(session, capsys, tmp_path, line, reason):
    (tmp_path / "damaged.glb").write_bytes(b"glTF nonsense")
    far = trimesh.creation.box().apply_translation([9, 9, 9])
    far.export(tmp_path / "far.stl")
    assert reason in session.fail(capsys, line)


def test_edits_for_another_shape_are_told_at_the_prompt(session, capsys):
    def edit_window(edit_session, title):
        edit_session.pick(2, 4)
        edit_session.adjust("move", u=0.2)
        return True

    session.engine.edit_window = edit_window
    session.do("edit ?")
    path = session.folder / "inference-0-edit.json"
    again = f"submit decode |{path} --edit |{path}"
    assert "warning" not in session.do(again, "run")
    content = json.loads(path.read_text())
    for centre in content["centres"].values():
        centre[0] += 0.5
    path.write_text(json.dumps(content))
    assert "(warning: 3 of the 3 edited loops lie more than 0.1 from" in session.do(again, "run")
    told = []
    session.engine.report = told.append
    session.engine.edit_window = lambda edit_session, title: True
    session.do(f"edit |{path}")
    assert len(told) == 1 and told[0].startswith("warning: 3 of the 3 edited loops")


def test_the_edit_command_raises_user_errors(session, tmp_path):
    other = EditSession(small_model(name="ellipse-multiple"), np.zeros(4), [], tmp_path, None, None)
    other.adjust("move", u=1.0)
    session.engine.edit_window = lambda edit_session, title: True
    for latent, edit_file in (
        (np.zeros(8), load_edits(other.save_edit_list())),
        (np.zeros(3), None),
    ):
        with pytest.raises(UserError):
            session.engine.edit("edit", latent, edit_file, None, None)


def test_an_edit_for_another_model_fails_when_it_runs(session, capsys, tmp_path):
    edit = EditSession(small_model(name="ellipse-multiple"), np.zeros(4), [], tmp_path, None, None)
    edit.adjust("move", u=1.0)
    session.do(f"submit decode ? --edit {edit.save_edit_list().name}")
    assert "was made for ellipse-multiple loops" in session.fail(capsys, "run")


def test_formats_are_written_beside_the_mesh(session):
    session.do("submit decode ? --save --format glb,json", "run")
    assert session.saved() == [
        "inference-0-latent.txt",
        "inference-0-loops.json",
        "inference-0-slices.npz",
        "inference-0.glb",
        "inference-0.obj",
    ]


# ------------------------------------------------------------------------------- commands: encode


def egg_mesh():
    """An upright egg, long side 1 along y."""
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=0.5)
    mesh.apply_scale([0.6, 1.0, 0.5])
    return mesh


@pytest.mark.parametrize("kind", ["obj", "stl", "glb", "ply"])
def test_a_mesh_of_any_format_is_encoded(session, tmp_path, kind):
    egg_mesh().apply_translation([3, 1, 2]).apply_scale(7).export(tmp_path / f"egg.{kind}")
    printed = session.do(f"encode egg egg.{kind} --fit", "submit interp 3 $egg ?", "run all")
    n_planes = session.engine.info.n_planes
    assert re.search(rf"egg: (\d+) of \1 loops kept, on \d+ of {n_planes} planes", printed)
    assert re.search(r"the model gives \d+ back", printed)
    assert "lying on its side" not in printed


def test_a_mesh_on_its_side_gets_a_hint(session, tmp_path):
    lying = egg_mesh().apply_scale([0.3, 1, 0.3])
    lying.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0]))
    lying.export(tmp_path / "lying.obj")
    printed = session.do("encode lying lying.obj --fit")
    assert "is it lying on its side? The planes follow each other along the y axis" in printed
    # Advice is not at the end of a long line.
    assert "\nso few planes meet it: is it lying" in printed
    assert max(map(len, printed.splitlines())) <= 96


def test_the_latent_is_that_of_the_loops(session, tmp_path):
    egg_mesh().export(tmp_path / "egg.obj")
    session.do("encode egg egg.obj --no-refine")
    model, info = session.engine.model, session.engine.info
    vertices, faces = read_mesh(tmp_path / "egg.obj")
    sequence, _ = loops_to_sequence(
        slice_mesh(vertices, faces, info.planes).loops_by_plane, info.representation
    )
    if info.use_eos_token:
        sequence = np.concatenate([sequence, eos_timestep(info.representation)[None]])
    targets = torch.from_numpy(info.normalise(sequence).astype(np.float32))[:, None]
    with torch.inference_mode():
        mu, _ = model.encoder(targets, torch.zeros(len(targets), 1, dtype=torch.bool))
    np.testing.assert_allclose(session["egg"], mu[0], atol=1e-5)


def test_too_many_loops_are_counted(tmp_path):
    from loopdraw.data.dataset import load_datasets
    from loopdraw.options import options_for, parse_options

    root = write_dataset(tmp_path / "data", n_train=4, n_test=0, eos=True)
    options = parse_options(small_options(root, tmp_path / "save", "--use_eos_token", "True"))
    info = load_datasets(report=lambda line: None, **options_for(load_datasets, options))[
        "train"
    ].info
    model = LoopSeqEncoderDecoderModel(
        info, "cpu", **options_for(LoopSeqEncoderDecoderModel, options)
    )
    tubes = [
        trimesh.creation.annulus(0.05, 0.1, 0.98).apply_translation([0.25 * i, 0, 0])
        for i in range(3)
    ]
    mesh = trimesh.util.concatenate(tubes)
    mesh.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0]))
    mesh.export(tmp_path / "tubes.obj")
    encoded = encode_mesh(model, tmp_path / "tubes.obj")
    n_kept = info.n_timesteps - 1
    assert encoded.report.startswith(f"{n_kept} of 36 loops kept")
    assert np.isfinite(encoded.latent).all()
    # Of what the model makes, as many loops a plane are looked at as for any other mesh.
    info.most_loops = 0
    assert "the model gives 0 back" in encode_mesh(model, tmp_path / "tubes.obj").report


def test_pointnet_encoders_get_points(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = Session(published(tmp_path, "pointnet-transformer"))
    egg_mesh().export(tmp_path / "egg.obj")
    session.do("encode egg egg.obj --fit")
    assert session["egg"].shape == (session.options.latent_size,)


def test_fitting_centres_and_scales():
    vertices, faces = np.asarray(egg_mesh().vertices), np.asarray(egg_mesh().faces)
    stray = np.concatenate([5 * vertices + [1, 2, 3], [[100, 100, 100]]])
    fitted = fit_to_unit(stray, faces)[:-1]
    np.testing.assert_allclose(fitted.max(axis=0), [0.3, 0.5, 0.25], atol=2e-3)
    np.testing.assert_allclose(fitted.min(axis=0), [-0.3, -0.5, -0.25], atol=2e-3)


# ------------------------------------------------------------------------------------- animations


def test_an_animation_goes_from_the_untouched_shape_to_the_edited_one():
    edits = [make_edit("scale", 3, 4, u=1.5, v=1.5), make_edit("square", 8, 9)]
    editor = LoopEditor(small_model(flag_bias=5.0), np.zeros(LATENT_SIZE))
    scenes = make_scenes(editor, edits)
    untouched, whole = editor.untouched, LoopEditor(editor.model, editor.latent, edits).shape
    for scene, shape in ((scenes[0], untouched), (scenes[-1], whole)):
        for drawn, loops in zip(scene.loops_by_plane, shape.loops_by_plane, strict=True):
            np.testing.assert_array_equal(drawn, loops)
    assert not scenes[0].edited and scenes[0].untouched is None
    assert list(scenes[-1].edited) == [3, 4, 8, 9] and 5 in scenes[-1].regenerated
    sizes = [np.ptp(scene.loops_by_plane[3][0]) for scene in scenes]
    assert (np.diff(sizes[1:]) > 0).all()


def test_mistakes_of_the_animation_script_are_one_line(tmp_path):
    with pytest.raises(UserError, match="the following arguments are required: gif"):
        edit_animation.main(["a.txt", "b.json"])
    (tmp_path / "opt.txt").write_text(f"--save_dir {tmp_path}")
    with pytest.raises(UserError, match="nowhere.json"):
        edit_animation.main([str(tmp_path / "opt.txt"), "nowhere.json", "a.gif"])


def test_representation_is_known_to_the_file(edit_session):
    assert load_edits(edit_session.save_edit_list()).representation == POLYLINE
