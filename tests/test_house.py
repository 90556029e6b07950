"""The rules of the house: imports run downwards, and heavy libraries stay in few places."""

import ast
import subprocess
import sys

import pytest
from conftest import ROOT

# From the ground up: a room may import what stands before it.
ROOMS = ("ground", "loops", "surface", "data", "model", "evaluation", "editing", "view", "door")
ROOMS += ("prompt", "demo")
DOORS = {
    "loop_models",
    "loop_models_main",
    "loop_models_inference",
    "loop_models_options",
    "loop_inference_config_and_repl",
    "loop_inference_intervention_func",
    "polyscope_screenies",
}
PACKAGE = sorted((ROOT / "loopdraw").glob("**/*.py"))
GROUND = {"files", "threads", "options", "logs", "processes", "checkpoints"}


def room_of(module):
    """The room of a dotted module name such as `loopdraw.model.vae`."""
    parts = module.split(".")[1:]
    if not parts or parts[0] == "shapes":
        return "door"
    return "ground" if parts[0] in GROUND else parts[0]


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path):
    """Dotted names of all modules that a file imports, wherever in the file."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            modules.add(node.module)
            of_package = (ROOT / node.module.replace(".", "/")).is_dir()
            if of_package:
                modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


def test_imports_run_downwards():
    for path in PACKAGE:
        room = ROOMS.index(room_of(name_of(path)))
        for module in imported(path):
            assert module.split(".")[0] not in DOORS, f"{path} imports the script {module}"
            if module.startswith("loopdraw."):
                assert ROOMS.index(room_of(module)) <= room, f"{path} imports {module}"


def test_modules_do_not_import_each_other_in_a_circle():
    graph = {name_of(path): imported(path) for path in PACKAGE}
    done = set()

    def visit(name, trail):
        assert name not in trail, " -> ".join([*trail, name])
        if name in done or name not in graph:
            return
        for other in graph[name]:
            if other != name:
                visit(other, (*trail, name))
        done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize(
    "rooms, library",
    [
        (set(ROOMS) - {"view"}, "polyscope"),
        ({"loops", "surface"}, "torch"),
    ],
)
def test_heavy_libraries_stay_where_they_belong(rooms, library):
    for path in PACKAGE:
        if room_of(name_of(path)) in rooms:
            assert library not in {module.split(".")[0] for module in imported(path)}, path


def test_rooms_are_small():
    rooms = {path.parent for path in PACKAGE} - {ROOT / "loopdraw"}
    assert len(rooms) >= 9
    for room in rooms:
        names = {path.stem for path in room.glob("*.py")}
        assert len(names - {"__init__", "__main__"}) <= 8, room


def test_the_top_level_holds_the_doors_alone():
    assert {path.stem for path in ROOT.glob("*.py")} == DOORS
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    top = {name for name in tracked if name and "/" not in name and not name.endswith(".py")}
    allowed = {"Makefile", "pyproject.toml", "requirements.txt", "environment.yml", ".gitignore"}
    allowed |= {"README.md", "LICENSE", "CITATION.cff", "CHANGELOG.md", "CONTRIBUTING.md"}
    allowed |= {"vases-optfile.txt", "sofas-optfile.txt"}
    demo = {name for name in top if name.startswith("demo-")}
    assert top - demo <= allowed


def test_importing_the_package_costs_no_torch():
    code = "import sys, loopdraw; print(sorted({'torch', 'numpy', 'trimesh'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stderr
