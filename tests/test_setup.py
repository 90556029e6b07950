"""What a new user meets first: requirements, optfiles, `--help`, and who imports whom."""

import ast
import re
import subprocess
import sys
from importlib.metadata import version

import pytest
from conftest import ROOT

from loopdraw.options import parse_options

SCRIPTS = (
    "loop_models.py",
    "loop_models_main.py",
    "loop_models_inference.py",
    "polyscope_screenies.py",
    "loop_models_options.py",
    "-m loopdraw.evaluation",
    "-m loopdraw.data.prepare",
    "-m loopdraw.demo.dataset",
    "-m loopdraw.model.fit_prior",
)


def requirements(name="requirements.txt"):
    lines = (ROOT / name).read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def test_requirements_are_exactly_pinned_and_installed():
    for line in requirements():
        name, pinned = re.fullmatch(r"([\w-]+)==([\w.]+)", line).groups()
        assert version(name).split("+")[0] == pinned, line


def test_conda_installs_the_same_list():
    lines = requirements("environment.yml")
    dependencies = lines[lines.index("dependencies:") + 1 :]
    assert dependencies == ["- python=3.11", "- pip", "- pip:", "- -r requirements.txt"]


def test_every_import_is_in_the_requirements():
    """A package that is only there because another one needs it may go away with it."""
    known = {line.split("==")[0].replace("-", "_").lower() for line in requirements()}
    known |= {"pil" if "pillow" in known else "", "skimage" if "scikit_image" in known else ""}
    known |= {"sklearn" if "scikit_learn" in known else ""}
    optional = {"pymeshlab"}
    folders = ("loopdraw", "tests", "benchmarks", "examples", "docs")
    paths = [*ROOT.glob("*.py"), *(p for name in folders for p in ROOT.glob(f"{name}/**/*.py"))]
    ours = {path.stem for path in paths} | {"loopdraw"}
    for path in paths:
        for name in imports(path):
            allowed = name in sys.stdlib_module_names or name in ours or name in optional
            assert allowed or name.lower() in known, f"{path.name} imports {name}"


def imports(path):
    """Top-level names of all that a Python file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_complete_and_imports_nothing_heavy(script):
    run = f"run_path({script!r}"
    if script.startswith("-m "):
        run = f"run_module({script[3:]!r}"
    probe = (
        "import runpy, sys\n"
        f"sys.argv = [{script!r}, '--help']\n"
        "try:\n"
        f"    runpy.{run}, run_name='__main__')\n"
        "finally:\n"
        "    heavy = {'torch', 'polyscope', 'skimage', 'trimesh', 'scipy', 'joblib'}\n"
        "    print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr.strip() == "[]"
    assert finished.stdout.startswith("usage: ")


def test_prompt_imports_nothing_heavy_but_torch():
    probe = (
        "import sys, loopdraw.prompt.engine, loop_inference_config_and_repl\n"
        "heavy = {'trimesh', 'skimage', 'scipy', 'joblib', 'matplotlib', 'PIL', 'polyscope'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True
    )
    assert finished.stdout.strip() == "[]", finished.stderr


@pytest.mark.parametrize("script", SCRIPTS[:3])
def test_help_lists_every_option(script):
    text = subprocess.run(
        [sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True
    ).stdout
    for name in vars(parse_options([])):
        assert f"--{name}" in text


def test_published_optfiles():
    vases = parse_options(["--optfile", str(ROOT / "vases-optfile.txt")])
    sofas = parse_options(["--optfile", str(ROOT / "sofas-optfile.txt")])
    for options in (vases, sofas):
        assert (options.mode, options.load_epoch) == ("test", -1)
        assert options.loop_repr_type == "fixed-res-polyline" and options.reco_loss_type == "l2"
        assert options.transformer_arch_version == 1 and options.latent_size == 64
        assert (options.niter, options.niter_decay, options.lr) == (71, 7230, 7e-5)
    assert vases.dataroot == "datasets/coseg-vases"
    assert vases.save_dir == "checkpoints/coseg-vases-0.2KL-01-11.1"
    assert sofas.save_dir == "checkpoints/shapenet-sofas-0.02KL-10-24"
    assert (vases.enc_kl_weight, vases.enc_kl_min, vases.batch_size) == (0.2, 0.1, 4)
    assert (sofas.enc_kl_weight, sofas.enc_kl_min, sofas.batch_size) == (0.02, 0.1, 16)
    assert (vases.use_eos_token, sofas.use_eos_token) == (False, True)
    for side in ("enc", "dec"):
        for options, expected in ((vases, (512, 4, 1, 512)), (sofas, (512, 8, 8, 768))):
            names = ("d_model", "n_layers", "n_heads", "ffwd_size")
            values = tuple(getattr(options, f"{side}_transformer_{name}") for name in names)
            assert values == expected
