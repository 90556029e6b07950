"""Pages that draw themselves: what is in the file, and what a browser makes of it."""

import base64
import io
import json
import re
import tomllib
import zlib

import numpy as np
import pytest
import trimesh
from conftest import ROOT
from picture_checks import assert_whole, circle, is_blue, is_golden, is_grey, is_pink, is_red, share
from PIL import Image

import loopdraw
from loopdraw.files import UserError
from loopdraw.loops.geometry import make_planes
from loopdraw.view.html import page as html_page
from loopdraw.view.html.page import save_page
from loopdraw.view.scene import Scene

DESKTOP, PHONE = (700, 520), (390, 780)
PLANES = make_planes("y", 5, -0.4, 0.4)
NASTY = '</script><b>"&{{data}}`x`'


def cylinder(radius=0.3, **more):
    """A closed cylinder along y, with a loop on each of five planes."""
    mesh = trimesh.creation.cylinder(radius, 0.9, sections=24)
    mesh.apply_transform(trimesh.transformations.rotation_matrix(-np.pi / 2, [1, 0, 0]))
    loops = [[circle(radius, n_points=24)] for _ in PLANES]
    return Scene((mesh.vertices, mesh.faces), PLANES, loops, **more)


def edited_pair():
    before = cylinder()
    loops = [*before.loops_by_plane[:2], *([circle(0.15, n_points=24)] for _ in range(3))]
    changes = {"edited": [2], "regenerated": [3, 4], "untouched": (PLANES, before.loops_by_plane)}
    return [before, Scene(None, PLANES, loops, **changes)]


def part(text, name):
    """What the element of an id holds."""
    return re.search(rf'id="{name}">(.*?)</script>', text, re.DOTALL)[1]


def unpacked(path):
    """The description of a page; and of each shape vertices, faces and the points of its loops."""
    text = path.read_text()
    description = json.loads(part(text, "page"))
    data, shapes = zlib.decompress(base64.b64decode(part(text, "data"))), []

    def take(kind, count):
        nonlocal data
        size = count * np.dtype(kind).itemsize
        values, data = np.frombuffer(data[:size], kind), data[size:]
        return np.cumsum(values, dtype=kind)

    for shape in description["shapes"]:
        vertices = take("<u2", 3 * shape["vertices"]).reshape(3, -1).T / 65535
        faces = take("<u4", 3 * shape["faces"]).reshape(-1, 3)
        nodes = take("<u2", 3 * sum(loop["points"] for loop in shape["loops"])).reshape(3, -1).T
        shapes.append((vertices, faces, nodes / 65535))
    assert not data
    return description, shapes


# ---------------------------------------------------------------------------------------- the file


def test_the_numbers_are_those_of_the_shape(tmp_path):
    scene = cylinder()
    save_page(tmp_path / "a.html", [scene, cylinder(0.2)], "A")
    description, ((vertices, faces, nodes), _) = unpacked(tmp_path / "a.html")
    # The longest side of the first, 0.9, is the whole range of a coordinate.
    corners, expected = vertices[faces], scene.mesh[0][scene.mesh[1]]
    np.testing.assert_allclose((corners - 0.5) * 0.9, expected, atol=1e-5)
    np.testing.assert_allclose(
        (nodes - 0.5) * 0.9,
        np.concatenate([points for _, _, (points, _) in scene.numbered_loops()]),
        atol=1e-5,
    )
    assert [loop["number"] for loop in description["shapes"][0]["loops"]] == list(range(5))
    assert description["most_loops"] == 5 and description["shapes"][0]["up"] == [0, 1, 0]


def test_the_file_needs_nothing_else_and_is_small(tmp_path):
    save_page(tmp_path / "a.html", edited_pair(), "A")
    text = (tmp_path / "a.html").read_text()
    assert not re.search(r"https?:|//[a-z]+\.|@import|\bfetch\b|\bsrc=", text)
    assert "default-src 'none'" in text
    assert not re.search(r"{{\w+}}", text)
    assert len(text) < 40_000


def test_titles_and_captions_are_text(tmp_path):
    save_page(tmp_path / "a.html", [cylinder()], NASTY, f"by `{NASTY}`", [NASTY])
    text = (tmp_path / "a.html").read_text()
    assert "<b>" not in text and text.count("</script>") == 3
    assert "<title>&lt;/script&gt;&lt;b&gt;&quot;&amp;{{data}}`x`</title>" in text
    assert unpacked(tmp_path / "a.html")[0]["shapes"][0]["caption"] == NASTY


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_any_size_fits(tmp_path, size):
    scene = cylinder()
    planes = scene.planes * [[[1], [size], [1], [1]]]
    loops = [[loop * size for loop in loops] for loops in scene.loops_by_plane]
    scene = Scene((scene.mesh[0] * size, scene.mesh[1]), planes, loops)
    save_page(tmp_path / "a.html", [scene], "A")
    description, ((vertices, _, _),) = unpacked(tmp_path / "a.html")
    np.testing.assert_allclose(np.ptp(vertices, axis=0), [0.6 / 0.9, 1, 0.6 / 0.9], atol=1e-3)
    assert 0 < description["radius"] < 0.1


def test_what_cannot_be_drawn(tmp_path):
    path = tmp_path / "a.html"
    mesh = cylinder().mesh
    broken = np.where(np.arange(len(mesh[0]))[:, None] == 3, np.nan, mesh[0])
    for scene, reason in (
        (Scene((broken, mesh[1])), "shape 1 has values that are not finite"),
        (Scene(), "shape 1 has neither loops nor a mesh"),
        (Scene(None, PLANES, [[] for _ in PLANES]), "shape 1 has neither"),
        (Scene(None, PLANES * np.nan, cylinder().loops_by_plane), "not finite"),
    ):
        with pytest.raises(UserError, match=reason):
            save_page(path, [cylinder(), scene], "A")
    assert not list(tmp_path.iterdir())


def test_loops_that_are_no_loops_are_left_out(tmp_path):
    loops = cylinder().loops_by_plane
    loops = [loops[0], [np.full((3, 2), np.nan)], [np.zeros((4, 2))], *loops[3:]]
    save_page(tmp_path / "a.html", [Scene(None, PLANES, loops)], "A")
    description, _ = unpacked(tmp_path / "a.html")
    assert [loop["number"] for loop in description["shapes"][0]["loops"]] == [0, 3, 4]


def test_large_meshes_are_thinned_out(tmp_path, monkeypatch):
    monkeypatch.setattr(html_page, "MOST_FACES", 2000)
    mesh = trimesh.creation.icosphere(5)
    save_page(tmp_path / "a.html", [Scene((mesh.vertices, mesh.faces))] * 2, "A")
    for vertices, faces, _ in unpacked(tmp_path / "a.html")[1]:
        thin = trimesh.Trimesh(vertices - 0.5, faces)
        assert 500 < len(faces) <= 1000 and thin.area_faces.min() > 0
        np.testing.assert_allclose(thin.area, np.pi, rtol=0.1)


def test_a_page_stays_small_whatever_it_shows(tmp_path, monkeypatch):
    monkeypatch.setattr(html_page, "MOST_BYTES", 30_000)
    rough = trimesh.creation.icosphere(4)
    rough.vertices += np.random.default_rng(0).normal(size=rough.vertices.shape) * 0.1
    save_page(tmp_path / "a.html", [Scene((rough.vertices, rough.faces))], "A")
    assert 10_000 < len(part((tmp_path / "a.html").read_text(), "data")) <= 30_000


def test_the_parts_of_a_page_are_installed():
    with (ROOT / "pyproject.toml").open("rb") as file:
        patterns = tomllib.load(file)["tool"]["setuptools"]["package-data"]["loopdraw.view.html"]
    folder = ROOT / "loopdraw/view/html"
    parts = {path for path in folder.iterdir() if path.is_file() and path.suffix != ".py"}
    assert parts == {path for pattern in patterns for path in folder.glob(pattern)}


def test_the_page_in_the_documents_is_as_new():
    path = ROOT / "docs/vase.html"
    for name in (*html_page.SCRIPTS, "page.css"):
        assert (ROOT / "loopdraw/view/html" / name).read_text() in path.read_text(), name
    assert path.stat().st_size < 500_000 and len(unpacked(path)[1]) == 1


def test_shapes_save_themselves_before_and_after(tmp_path):
    vase = loopdraw.Shape(PLANES, cylinder().loops_by_plane)
    edited = loopdraw.Shape(PLANES, cylinder(0.2).loops_by_plane)
    edited._before, edited.edits = vase, [loopdraw.Scale(loop=2, u=0.5)]
    assert vase.save(tmp_path / "vase.html") == tmp_path / "vase.html"
    edited.save(tmp_path / "edited.html")
    one, two = (unpacked(tmp_path / f"{name}.html")[0]["shapes"] for name in ("vase", "edited"))
    assert len(one) == 1 and [shape["caption"] for shape in two] == [
        "before",
        "after: scale 2: u 0.5, v 1",
    ]
    assert "5 loops on 5 planes" in (tmp_path / "vase.html").read_text()
    empty = loopdraw.Shape(PLANES, [[] for _ in PLANES])
    with pytest.raises(UserError, match="neither loops nor a mesh"):
        empty.save(tmp_path / "empty.html")


# ------------------------------------------------------------------------------------- the browser


class Window:
    """A page that is open in the browser. Nothing turns by itself, until told."""

    def __init__(self, browser, path, size=DESKTOP, script="", motion="reduce"):
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            reduced_motion=motion,
            color_scheme="light",
        )
        self.page = page = context.new_page()
        page.set_default_timeout(60_000)
        self.requests, self.errors = [], []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.errors.append(message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.add_init_script(script)
        self.address = path.as_uri()
        page.goto(self.address)
        page.wait_for_selector("#surface, #trouble:not([hidden])")

    def picture(self, i=0):
        """What is seen of a shape, (height, width, 3) uint8."""
        # Two frames: what was asked for last is drawn in the first.
        wait = "() => new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))"
        self.page.evaluate(wait)
        png = self.page.locator("canvas").nth(i).screenshot()
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))

    def close(self):
        self.page.context.close()
        assert self.errors == [] and set(self.requests) == {self.address}


@pytest.fixture
def opened(chromium, tmp_path):
    """Opens a page of some scenes; at the end, nothing was asked of the network and none failed."""
    windows = []

    def open_page(scenes, captions=None, **more):
        save_page(tmp_path / "a.html", scenes, "Title", "Made by `a test`", captions)
        windows.append(Window(chromium, tmp_path / "a.html", **more))
        return windows[-1]

    yield open_page
    for window in windows:
        window.close()


def test_a_shape_and_its_slider(opened):
    window = opened([cylinder()])
    whole = window.picture()
    assert_whole(whole)
    assert share(whole, is_golden) > 0.005 and share(whole, is_blue) > 0.05
    page = window.page
    slider = page.get_by_label("Loops")
    assert (slider.input_value(), page.locator("#shown").inner_text()) == ("5", "5 of 5")

    slider.focus()
    slider.press("ArrowLeft")
    four = window.picture()
    assert page.locator("#shown").inner_text() == "4 of 5"
    slider.fill("1")
    one = window.picture()
    covered = [(picture != 255).any(axis=2).mean() for picture in (whole, four, one)]
    assert covered[0] > 1.1 * covered[1] > 1.1 * 1.5 * covered[2] > 0
    slider.fill("0")
    assert (window.picture() == 255).all()

    slider.fill("5")
    page.get_by_role("button", name="Surface").click()
    loops = window.picture()
    assert share(loops, is_blue) < 0.01 and share(loops, is_golden) > 0.005
    page.get_by_role("button", name="Draw").click()
    assert page.locator("#shown").inner_text() != "5 of 5"
    page.locator("#shown", has_text="5 of 5").wait_for()


def test_it_turns_and_grows(opened):
    scene = cylinder()
    scene.loops_by_plane[4][0] = scene.loops_by_plane[4][0] * [1, 0.2]  # not round
    window = opened([scene])
    page, first = window.page, window.picture()
    canvas = page.locator("canvas")
    canvas.drag_to(
        canvas, source_position={"x": 300, "y": 150}, target_position={"x": 420, "y": 150}
    )
    turned = window.picture()
    canvas.press("ArrowDown")
    from_above = window.picture()
    canvas.hover(position={"x": 340, "y": 170})
    page.mouse.wheel(0, -300)
    large = window.picture()
    canvas.dblclick(position={"x": 5, "y": 5})
    back = window.picture()
    changes = [np.abs(a.astype(int) - b).max() for a, b in ((first, turned), (turned, from_above))]
    assert min(changes) > 50
    assert (large != 255).any(axis=2).sum() > 1.3 * (from_above != 255).any(axis=2).sum()
    inside = slice(9, -9)  # of the frame that says where the keyboard is
    np.testing.assert_array_equal(back[inside, inside], first[inside, inside])

    turn = page.get_by_role("button", name="Turn")
    turn.click()
    assert turn.get_attribute("aria-pressed") == "true"
    page.wait_for_timeout(300)
    assert np.abs(window.picture().astype(int) - first).max() > 50


def test_before_and_after(opened):
    window = opened(edited_pair(), ["before", "after: " + NASTY], size=PHONE)
    assert window.page.locator("figcaption").all_inner_texts() == ["before", "after: " + NASTY]
    before, after = window.picture(0), window.picture(1)
    for picture in (before, after):
        assert_whole(picture, 0.01)
    for is_colour in (is_red, is_pink, is_grey):
        assert share(after, is_colour) > 3 * share(before, is_colour) + 0.001
    legend = window.page.locator("#legend li").all_inner_texts()
    assert legend == ["before the edit", "loop", "made anew", "edited"]
    assert no_scroll_bars(window.page)


def test_a_gallery_on_a_phone(opened):
    radii = np.linspace(0.1, 0.4, 7)
    window = opened([cylinder(r) for r in radii], [f"{r:.2f}" for r in radii], size=PHONE)
    page = window.page
    figures = page.locator("figure:visible")
    width = page.evaluate("document.documentElement.scrollWidth")
    assert figures.count() == 7 and width == PHONE[0]
    page.locator("canvas").nth(6).scroll_into_view_if_needed()
    wide = window.picture(6)
    assert_whole(wide)
    page.locator("canvas").nth(6).click()
    assert figures.count() == 1 and no_scroll_bars(page)
    alone = window.picture(6)
    assert_whole(alone)
    assert alone.size > 3 * wide.size
    page.keyboard.press("Escape")
    assert figures.count() == 7
    page.locator("canvas").nth(2).press("Enter")
    page.get_by_role("button", name="All shapes").click()
    assert figures.count() == 7


def no_scroll_bars(page):
    return page.evaluate(
        "(([w, h]) => w <= innerWidth && h <= innerHeight)"
        "([document.documentElement.scrollWidth, document.documentElement.scrollHeight])"
    )


def test_a_mesh_without_loops(opened):
    window = opened([Scene(cylinder().mesh)])
    assert share(window.picture(), is_blue) > 0.05
    assert not window.page.get_by_label("Loops").is_visible()


def test_a_browser_without_webgl_is_told(opened):
    window = opened([cylinder()], script="HTMLCanvasElement.prototype.getContext = () => null")
    assert "WebGL 2" in window.page.locator("#trouble").inner_text()
    assert not window.page.locator("footer").is_visible()
