"""What the documents say is there: links, pictures, modules, commands and their options."""

import functools
import re
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT

import loopdraw
from loopdraw.options import make_parser

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
MOST_README_LINES = 200
OPTION_SCRIPTS = {"loop_models.py", "loop_models_main.py", "loop_models_inference.py"}
OPTION_SCRIPTS |= {"loop_models_options.py", "loopdraw.evaluation", "loopdraw.model.fit_prior"}
PLACEHOLDERS = {"F", "chairs.txt", "my-vases.txt"}  # files that the reader makes


def code_of(path):
    """All code in a document, inline and in blocks."""
    text = path.read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    prose = re.sub(r"^ *```\w*\n.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    inline = [" ".join(words.split()) for words in re.findall(r"`([^`]+)`", prose)]
    return [line.strip() for block in blocks for line in block.splitlines()] + inline


def commands_of(path):
    """The words after `python` of each command that runs a script or a module."""
    for line in code_of(path):
        found = re.search(r"(?:^|[|=\s/])(?:python|torchrun [^`]*?(?=\w+\.py))\s*(.*)$", line)
        if found and re.match(r"-m \w|[\w/]+\.py", found[1]):
            yield shlex.split(re.split(r"\s{3,}|#|\s\|\s", found[1])[0])


@functools.cache
def help_of(*words):
    run = subprocess.run(
        [sys.executable, *words, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_there_are_documents():
    assert len(DOCUMENTS) > 10
    assert sum(len(list(commands_of(path))) for path in DOCUMENTS) > 30


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?:|mailto:|#", link):
            assert (path.parent / link.split("#")[0]).exists(), link


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_files_named_in_the_text_exist(path):
    if path.name == "CHANGELOG.md":
        return  # it also names what is gone
    named = [
        word
        for code in code_of(path)
        for word in re.findall(r"(?<![\w/.])(?:loopdraw|tests|benchmarks|examples)/[\w/.-]+", code)
    ]
    for name in named:
        assert (ROOT / name.rstrip(".")).exists(), name


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= MOST_README_LINES


def test_the_tree_in_the_readme():
    text = (ROOT / "README.md").read_text()
    tree = text.split("## Where things are")[1].split("```")[1].strip().splitlines()
    for line in tree:
        name, said = line.split(maxsplit=1)
        folder = ROOT / "loopdraw" if line.startswith(" ") else ROOT
        assert (folder / name).exists(), name
        for file in re.findall(r"\b\w+\.py\b", said):
            assert (folder / name / file).exists(), f"{name}{file}"
    rooms = {path.name for path in (ROOT / "loopdraw").iterdir() if (path / "__init__.py").exists()}
    assert rooms <= {line.split()[0].strip("/") for line in tree}
    assert {path.name for path in ROOT.glob("*.py")} <= {line.split()[0] for line in tree}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_exist_and_know_their_options(path):
    if path.name == "CHANGELOG.md":
        return
    options = set(make_parser()._option_string_actions)
    for words in commands_of(path):
        is_module = words[0] == "-m"
        script = words[1] if is_module else words[0]
        if script == "pytest":
            continue
        if is_module:
            file = ROOT / script.replace(".", "/")
            assert file.with_suffix(".py").exists() or (file / "__main__.py").exists(), script
        else:
            assert (ROOT / script).exists(), script
        given = [word.split("=")[0] for word in words if word.startswith("--")]
        if script in OPTION_SCRIPTS:
            assert set(given) <= options, words
        elif given:
            known = help_of(*words[: 1 + is_module])
            assert all(re.search(rf"{option}\b", known) for option in given), words
        if "--optfile" in words:
            file = words[words.index("--optfile") + 1]
            assert file in PLACEHOLDERS or re.match("stage-", file) or (ROOT / file).exists(), file


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_options_named_in_tables_exist(path):
    """Options in the first cell of a table row, as in `| `--amp` | ... |`."""
    options = set(make_parser()._option_string_actions)
    prompt = {"--checked", "--save", "--format", "--intervene", "--edit", "--after"}
    prompt |= {"--use_enc_sigma"}
    prepare = {"--up", "--axis", "--planes", "--size", "--test", "--max_loops"}
    benchmark = {"--resolution"}
    for cell in re.findall(r"^\| (`--[^|]*) \|", path.read_text(), re.MULTILINE):
        for option in re.findall(r"--\w+", cell):
            assert option in options | prompt | prepare | benchmark, option


def test_the_piped_line_of_the_readme():
    line = (
        r'printf "submit sample 10 --save\nrun all" | NO_POLYSCOPE=1 '
        "python loop_models_inference.py --optfile demo-vases-optfile.txt"
    )
    assert line in (ROOT / "README.md").read_text()


def test_names_of_the_package_in_the_documents():
    for path in DOCUMENTS:
        for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL):
            compile(block, path.name, "exec")
            for name in re.findall(r"\bloopdraw\.(\w+)\(", block):
                assert name in loopdraw.__all__, f"{path.name}: loopdraw.{name}"
