"""The page in the browser: who gets in, what it shows and gives, and how it follows.

What a person does on it is in `test_browser_by_hand.py`.
"""

import dataclasses
import io
import json
import socket
import sys
import types
import urllib.error
import urllib.request
import zipfile

import numpy as np
import pytest
import trimesh
from edited_page import PATIENCE, editing, wait_for
from small_model import LATENT_SIZE, small_model

from loopdraw.editing.edit_files import load_edits
from loopdraw.files import UserError
from loopdraw.loops.slices_files import save_slices
from loopdraw.options import parse_options
from loopdraw.view.browser.canvas import Canvas
from loopdraw.view.browser.events import Events
from loopdraw.view.browser.page import open_page
from loopdraw.view.scene import Scene


def get(page, path=""):
    """The answer of the page to a path below its address."""
    with urllib.request.urlopen(page.server.address + path, timeout=PATIENCE) as answer:
        return answer.read()


PLANES = small_model().info.planes
SQUARE = np.array([[-0.2, -0.2], [-0.2, 0.2], [0.2, 0.2], [0.2, -0.2]])
BLOCK = Scene(
    mesh=(
        np.array([[x, y, z] for x in (-0.2, 0.2) for y in (-0.5, 0.5) for z in (-0.2, 0.2)]),
        np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]]),
    ),
    planes=PLANES,
    loops_by_plane=[[SQUARE] for _ in PLANES],
    edited=[4],
)


def status(address):
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_only_the_whole_address_opens_the_page(page):
    root = f"http://127.0.0.1:{page.server.port}"
    assert b"<html" in get(page) and status(page.server.address.rstrip("/")) == 200
    for path in ("/", "/x/", f"/{page.server.token[:-1]}/", f"/x{page.server.token}/"):
        assert status(root + path) == 403
    # Nor may pages of other sites connect, or other users of the machine.
    for path, answer in (("/", "403"), (f"/{page.server.token}", "101")):
        with socket.create_connection(("127.0.0.1", page.server.port)) as connection:
            connection.sendall(
                f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Protocol: viser-v1\r\n\r\n".encode()
            )
            assert connection.recv(100).split()[1].decode() == answer


def test_nothing_but_shapes_can_be_read(page, tmp_path):
    page.show("submit sample", BLOCK)
    page.settle()
    for path in ("../../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "download/1/../../x", "x"):
        assert status(page.server.address + path) == 404
    assert status(page.server.address + "download/2/obj") == 404
    assert status(page.server.address + "download/1/py") == 404


def test_downloads(page):
    for title in ("submit sample", "submit decode ?"):
        page.show(title, BLOCK)
    page.settle()
    assert get(page, "picture/2").startswith(b"\x89PNG")
    assert get(page, "download/1/obj").count(b"\nf ") == 6
    names = zipfile.ZipFile(io.BytesIO(get(page, "all.zip"))).namelist()
    kinds = (".obj", ".glb", ".stl", "-slices.npz")
    assert names == [f"{n}{k}" for n in ("1-submit-sample", "2-submit-decode") for k in kinds]


def test_shapes_side_by_side(page):
    for _ in range(3):
        page.show("submit sample", BLOCK)
    page.settle()
    assert [entry.number for entry in page.results.shown] == [3]
    for path, shown in (("beside/1", [3, 1]), ("beside/3", [1]), ("look/2", [2])):
        get(page, path)
        page.settle()
        assert [entry.number for entry in page.results.shown] == shown


def test_the_page_holds_a_bounded_number_of_shapes(page, monkeypatch):
    monkeypatch.setattr("loopdraw.view.browser.results.MOST_SHAPES", 3)
    for _ in range(5):
        page.show("submit sample", BLOCK)
    page.settle()
    assert [entry.number for entry in page.results.entries] == [3, 4, 5]


def test_a_taken_port_and_a_wrong_host(page):
    other = open_page()
    try:
        assert other.server.port > page.server.port
        assert "is taken" in other.server.greeting()[0]
    finally:
        other.close()
    for host in ("no.such.host.invalid", "192.0.2.1", "a\0b", "x" * 300):
        with pytest.raises(UserError, match="--viewer_host"):
            open_page(host)


def test_the_greeting_says_how_to_get_there(page, monkeypatch):
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.2 5000 10.0.0.1 22")
    port = page.server.port
    assert page.server.address in page.server.greeting()[0]
    assert f"ssh -L {port}:127.0.0.1:{port} " in page.server.greeting()[1]
    assert "@10.0.0.1 " in page.server.greeting()[1]


def test_words_from_the_page_name_no_other_files(page, tmp_path):
    (tmp_path / "inside.txt").write_text("1")
    (tmp_path / "link.txt").symlink_to("/etc/passwd")
    with editing(page, tmp_path):
        word = page.editor.word
        assert word(" ? ") == "?" and word("$last_z") == "$last_z"
        assert word("||inside.txt") == "||inside.txt"
        for wrong in ("|/etc/passwd", "||/etc/passwd", "||../x.txt", "x.npz", "||link.txt", ""):
            with pytest.raises(UserError, match="below --save_dir"):
                word(wrong)


def test_a_mesh_from_the_browser_is_read_like_a_file(page, tmp_path):
    with editing(page, tmp_path) as session:
        before = session.editor.latent
        for name, content, why in (
            ("a.gltf", b"{}", "not a mesh of one file"),
            ("a.obj", b"v 1 2 3\n", "^a.obj: .*no faces"),
            ("a.stl", b"", "a.stl: "),
        ):
            with pytest.raises(UserError, match=why):
                page.editor.encode(name, content)
        assert session.editor.latent is before
        assert not list(tmp_path.glob("**/mesh*"))


def test_uploads_are_bounded(page):
    from viser import _messages as messages

    listener, running = (
        page.server.viser._websock_server,
        page.server.gui._current_file_upload_states,
    )
    begin, go_on = (
        listener._incoming_handlers[kind]
        for kind in (messages.FileTransferStartUpload, messages.FileTransferPart)
    )
    assert len(begin) == len(go_on) == 1
    button = page.server.gui.add_upload_button("a mesh")

    def send(name, size, content=None):
        if content is None:
            begin[0](0, messages.FileTransferStartUpload(button._impl.uuid, name, "a", "", 3, size))
        else:
            go_on[0](0, messages.FileTransferPart(button._impl.uuid, name, 0, content))
        return name in running

    assert not send("large", 2**27)
    assert send("a", 100) and send("b", 100) and not send("c", 100)
    assert send("a", 100, b"x" * 60) and not send("b", 100, b"x" * 101)


def test_somebody_who_knocks_makes_no_noise(page, capfd):
    for message in (b"", b"nonsense\r\n\r\n", b"\x00" * 9000):
        with socket.create_connection(("127.0.0.1", page.server.port)) as connection:
            connection.sendall(message)
    get(page)
    assert capfd.readouterr().err == ""


def test_presses_on_an_old_list_of_edits_come_too_late(page, tmp_path):
    with editing(page, tmp_path) as session:
        session.pick(3)
        page.editor.events.ask(session.adjust, "move", None).result()
        editor, controls = session.editor, page.editor.controls
        wait_for(lambda: controls.revision == 2, "the list")
        get(page, "edits/remove/0/1")
        get(page, "edits/off/0/2")
        wait_for(lambda: not editor.edits[0].enabled, "the press")
        get(page, "edits/remove/0/2")
        get(page, "edits/remove/7/3")
        page.editor.events.ask(lambda: None).result()
        assert len(editor.edits) == 1


def test_the_page_says_which_planes_are_picked(page, tmp_path):
    with editing(page, tmp_path) as session:
        for picked, said in (((3,), "plane 3;"), ((3, 5), "planes 3 to 5;")):
            page.editor.events.ask(session.pick, *picked).result()
            page.editor.events.ask(lambda: None).result()
            assert said in page.editor.controls.plane.content


def test_edits_are_kept_without_a_save(page, tmp_path):
    with editing(page, tmp_path) as session:
        session.pick(3)
        kept = tmp_path / "inference" / "inference-0-edit.json"
        for u in (0.05, 0.1):
            page.editor.events.ask(lambda u=u: session.adjust("move", None, u=u)).result()
            wait_for(
                lambda u=u: kept.is_file() and json.loads(kept.read_text())["edits"][0]["u"] == u,
                "the file",
            )
        assert [path.name for path in kept.parent.iterdir()] == [kept.name]
        assert page.editor.events.ask(session.save).result().name == "inference-0.obj"


@pytest.fixture
def two_hands(page, tmp_path):
    """An editor of a page that two clients have open, with a loop picked."""
    with editing(page, tmp_path) as session:
        session.pick(3)
        page.editor.events.ask(page.editor.follow).result()
        page.clients = {1: None, 2: None}
        page.server.viser.get_clients = lambda: page.clients
        yield page.editor
        del page.server.viser.get_clients


def test_a_hand_that_rests_may_drag_on(two_hands, monkeypatch):
    editor, ask = two_hands, two_hands.events.ask
    monkeypatch.setattr("loopdraw.view.browser.editor.HAND_SECONDS", 0.0)
    start, wxyz = editor.gizmo.position, editor.gizmo.wxyz
    ask(editor._grasp, 1).result()
    for u in (0.1, 0.2):
        ask(editor._drag, 1, start + [u, 0.0, 0.0], wxyz).result()
        ask(editor.follow).result()
    (edit,) = editor.session.editor.edits
    assert edit.values["u"] == pytest.approx(0.2)
    # But if something else changes the shape meanwhile, the gizmo goes where the loop is.
    ask(editor.session.editor.undo).result()
    ask(editor.follow).result()
    np.testing.assert_allclose(editor.gizmo.position, start, atol=1e-6)
    ask(editor._drag, 1, start + [0.3, 0.0, 0.0], wxyz).result()
    assert editor.session.editor.edits == ()


def test_one_hand_at_a_time(two_hands, page):
    session, editor, ask = two_hands.session, two_hands, two_hands.events.ask
    start, wxyz = editor.gizmo.position, editor.gizmo.wxyz
    ask(editor._grasp, 1).result()
    ask(editor._grasp, 2).result()
    ask(editor._drag, 2, start + [0.3, 0.0, 0.0], wxyz).result()
    assert session.editor.edits == ()
    ask(editor._drag, 1, start + [0.1, 0.2, 0.0], wxyz).result()
    (edit,) = session.editor.edits
    assert edit.values == pytest.approx({"u": 0.1, "v": 0.0})  # y is not in the plane
    # The first is gone in the middle of the drag; the second may go on.
    del page.clients[1]
    ask(editor._grasp, 2).result()
    ask(editor._drag, 2, start + [0.2, 0.0, 0.0], wxyz).result()
    ask(session.editor.undo).result()
    assert session.editor.edits[0].values["u"] == pytest.approx(0.1)


def test_lines_have_the_colours_of_the_look(page):
    canvas = Canvas(page.server, "x")
    canvas.draw_loops(BLOCK)
    light = page.server.scene.get_handle_by_name("/x/loops").colors.reshape(-1, 3) / 255
    # A browser makes this of amounts of light.
    seen = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    found = {tuple(color) for color in (255 * seen).round(-1).astype(int)}
    wanted = (canvas.look.loop_color, canvas.look.edited_color)
    assert found == {tuple((255 * np.array(color)).round(-1).astype(int)) for color in wanted}


def test_the_surface_lies_behind_the_loops(page):
    canvas = Canvas(page.server, "x")
    canvas.draw_loops(BLOCK)
    thickness = page.server.scene.get_handle_by_name("/x/loops").thickness
    ball = trimesh.creation.icosphere(3)
    canvas.draw_surface((ball.vertices, ball.faces))
    drawn = page.server.scene.get_handle_by_name("/x/surface").vertices
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1 - thickness / 2, atol=1e-4)


def test_what_was_there_is_not_drawn_under_what_is_there(page):
    canvas = Canvas(page.server, "x")
    aside = SQUARE + [0.1, 0.0]  # two of its sides lie on lines of the square
    was_there = PLANES, [[SQUARE], [aside], *([] for _ in PLANES[2:])]
    canvas.draw_loops(dataclasses.replace(BLOCK, untouched=was_there))
    points = page.server.scene.get_handle_by_name("/x/loops").points
    grey = points[: len(points) - 4 * len(PLANES)]
    assert len(grey) == 4 and (grey[..., 0].max(axis=1) > 0.29).sum() == 3
    assert np.unique(grey[..., 1]) == pytest.approx(PLANES[1, 1, 1])


def test_updates_do_not_pile_up(page):
    canvas, buffer = Canvas(page.server, "x"), page.server.viser._websock_server._broadcast_buffer
    scenes = [
        dataclasses.replace(BLOCK, loops_by_plane=[[scale * SQUARE] for _ in PLANES])
        for scale in (1.0, 1.1)
    ]
    counts = []
    for number in range(300):
        canvas.draw_loops(scenes[number % 2], picked=[np.eye(3)])
        canvas.draw_surface(BLOCK.mesh if number % 3 else (1.1 * BLOCK.mesh[0], BLOCK.mesh[1][:5]))
        counts.append(len(buffer.message_from_id))
    assert max(counts[10:]) == max(counts[:10])


def test_a_late_place_of_the_hand_is_dropped():
    events, done = Events(), []
    for number in range(5):
        events.put(done.append, number, latest="gizmo")
    events.put(done.append, "end")
    events.put(done.append, 5, latest="gizmo")
    events.run(lambda action, arguments: action(*arguments), is_over=lambda: len(done) == 3)
    assert done == [4, "end", 5]


def test_who_waits_when_the_page_changes_is_told():
    events, done = Events(), []
    futures = [events.ask(done.append, number) for number in range(3)]
    events.put(done.append, "a click")
    events.put(done.append, "a movement", latest="gizmo")
    n_dropped = events.run(lambda action, arguments: action(*arguments), is_over=lambda: done)
    assert done == [0] and futures[0].result() is None
    assert n_dropped == 3  # the movement is of no importance
    for future in (*futures[1:], events.ask(done.append, "later")):
        with pytest.raises(UserError, match="the page has changed"):
            future.result(timeout=5)


def test_a_page_that_went_wild_answers_all(monkeypatch):
    monkeypatch.setattr("loopdraw.view.browser.events.MOST_WAITING", 2)
    events = Events()
    futures = [events.ask(int) for _ in range(3)]
    with pytest.raises(UserError, match="the page has changed"):
        futures[0].result(timeout=5)
    assert not futures[1].done() and not futures[2].done()


def options_of(viewer=None):
    return parse_options(["--viewer", viewer] if viewer else [])


@pytest.mark.parametrize(
    "viewer, typed, no_polyscope, display, shown_by",
    [
        (None, True, False, True, "window"),
        (None, True, False, False, "page"),
        (None, True, True, True, "page"),
        (None, False, False, False, None),
        (None, False, True, True, None),
        ("browser", False, True, True, None),
        ("browser", True, False, True, "page"),
        ("browser", False, False, False, "page"),
        ("none", True, False, True, None),
        ("polyscope", True, False, False, UserError),
    ],
)
def test_which_viewer(viewer, typed, no_polyscope, display, shown_by, monkeypatch):
    import loop_models_inference as script

    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(isatty=lambda: typed))
    monkeypatch.delenv("NO_POLYSCOPE", raising=False)
    if no_polyscope:
        monkeypatch.setenv("NO_POLYSCOPE", "1")
    windows = ("window", "window") if display else (None, None)
    monkeypatch.setattr(script, "window_openers", lambda: windows)
    page = types.SimpleNamespace(show="page", edit="page", wait=None, close=None)
    page.server = types.SimpleNamespace(greeting=lambda: ["here"])
    monkeypatch.setattr("loopdraw.view.browser.page.open_page", lambda host: page)
    if shown_by is UserError:
        with pytest.raises(UserError, match="--viewer browser"):
            script.viewers(options_of(viewer))
        return
    show, edit, greeting, _ = script.viewers(options_of(viewer))
    assert show == edit == shown_by and greeting == (["here"] if shown_by == "page" else [])


def test_without_viser_one_line_says_how_to_install_it(monkeypatch):
    import loop_models_inference as script

    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(script, "window_openers", lambda: (None, None))
    monkeypatch.setattr("loopdraw.view.browser.server.browser_available", lambda: False)
    show, _, (line,), _ = script.viewers(options_of())
    assert show is None and "pip install viser" in line
    with pytest.raises(UserError, match="pip install viser"):
        script.viewers(options_of("browser"))


def test_a_gallery_of_files(tmp_path, monkeypatch, capsys):
    import loopdraw

    monkeypatch.delitem(sys.modules, "IPython", raising=False)  # there the page does not wait
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    save_slices(tmp_path / "a-slices.npz", PLANES, BLOCK.loops_by_plane)
    shape = types.SimpleNamespace(scene=lambda: BLOCK)
    waited = []
    monkeypatch.setattr("loopdraw.view.browser.page.Page.wait", lambda page: waited.append(page))
    page = loopdraw.view(tmp_path / "a.obj", shape)
    try:
        page.settle()
        assert waited == [page] and page.server.address in capsys.readouterr().out
        assert [entry.number for entry in reversed(page.results.entries)] == [2, 1]
        assert page.results.entries[1].title == "a"
        assert page.results.entries[1].scene.loop_count() == len(PLANES)
    finally:
        page.close()
    with pytest.raises(UserError, match="b.obj: cannot be read"):
        loopdraw.view(tmp_path / "b.obj")
    with pytest.raises(UserError, match="nothing to show"):
        loopdraw.view()


def test_a_view_for_notebooks_needs_nothing_else(monkeypatch):
    IPython = pytest.importorskip("IPython")

    import loopdraw

    shape = loopdraw.Shape(PLANES, BLOCK.loops_by_plane)
    shape.mesh = trimesh.Trimesh(*BLOCK.mesh, process=False)
    shown = []
    monkeypatch.setattr(IPython, "get_ipython", lambda: types.SimpleNamespace(kernel=None))
    monkeypatch.setattr(IPython.display, "display", shown.append)
    assert shape.show() is None
    assert shown[0].data.startswith("<div><iframe") and "__VISER_EMBED_DATA__" in shown[0].data
    monkeypatch.setattr("loopdraw.view.browser.server.browser_available", lambda: False)
    shape.show()
    assert shown[1] is shape  # which shows itself as a picture


def test_an_editor_for_notebooks(tmp_path, monkeypatch, capsys):
    import loopdraw

    model = loopdraw.Model(small_model(flag_bias=5.0))
    start = model.decode(np.zeros(LATENT_SIZE)).edit(loopdraw.Move(loop=3, u=0.05))
    editing = model.edit(start, tmp_path / "edits")
    session, events = editing._session, editing.page.editor.events
    assert editing.page.server.address in capsys.readouterr().out
    session.pick(6)
    events.ask(session.adjust, "move", None).result()
    assert [edit.first for edit in editing.shape.edits] == [3, 6]
    sequence = events.ask(lambda: session.editor.shape.sequence).result()
    np.testing.assert_array_equal(editing.shape.sequence, sequence)
    events.ask(session.set_dimension, 0, 0.5).result()
    assert editing.shape.z[0] == 0.5
    editing.close()
    np.testing.assert_array_equal(editing.shape.sequence, session.editor.shape.sequence)
    assert load_edits(tmp_path / "edits" / "inference-0-edit.json").edits == editing.shape.edits
    with pytest.raises(UserError, match="adopt"):
        model.edit(loopdraw.Shape(PLANES, BLOCK.loops_by_plane))
