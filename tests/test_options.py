"""Options and optfiles: the published names, defaults and settings, and mistakes in one line."""

import shlex
import subprocess
import sys
import time
import types

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from loopdraw.files import UserError
from loopdraw.options import (
    ARCHITECTURES,
    LOOP_REPR_TYPES,
    format_options,
    make_parser,
    parse_options,
    read_optfile,
    require,
)

SCRIPTS = ["loop_models.py", "loop_models_main.py", "loop_models_inference.py"]

DEFAULTS = {
    "architecture": "lstm",
    "fourier_map_size": None,
    "fourier_map_sigma": 4.0,
    "enc_lstm_hidden_size": 64,
    "enc_bidirectional": False,
    "lstm_hidden_size": 64,
    "lstm_n_layers": 1,
    "pointnet_hidden_size": 128,
    "transformer_arch_version": 0,
    **{
        f"{side}_transformer_{name}": value
        for side in ("enc", "dec")
        for name, value in {"d_model": 128, "n_layers": 4, "n_heads": 1, "ffwd_size": 256}.items()
    },
    "dec_transformer_dropout": 0.0,
    "enc_kl_min": 0.05,
    "enc_kl_weight": 0.5,
    "enc_kl_anneal_cycle": 100,
    "enc_kl_anneal_formula": "ramp",
    "latent_size": 8,
    "enc_fc_hidden_sizes": [64, 64],
    "dec_fc_hidden_sizes": [64, 64],
    "reco_loss_type": "l2",
    "binary_flag_loss_weight": 1.0,
    "gpu_ids": [0],
    "save_dir": None,
    "load_epoch": None,
    "count_from_epoch": 0,
    "niter": 20,
    "niter_decay": 20,
    "lr": 0.001,
    "optimizer": "adam",
    "data_norm_by": "per_value",
    "loop_repr_type": "ellipse-multiple",
    "use_eos_token": False,
    "batch_size": 4,
    "dataroot": None,
    "mode": "train",
    "optfile": None,
    "load_test_set_for_inference": False,
}

VASES = {
    "dataroot": "datasets/coseg-vases",
    "save_dir": "checkpoints/coseg-vases-0.2KL-01-11.1",
    "architecture": "transformer",
    "transformer_arch_version": 1,
    **{
        f"{side}_transformer_{name}": value
        for side in ("enc", "dec")
        for name, value in {"d_model": 512, "n_layers": 4, "n_heads": 1, "ffwd_size": 512}.items()
    },
    "enc_fc_hidden_sizes": [128],
    "dec_fc_hidden_sizes": [128],
    "latent_size": 64,
    "enc_kl_weight": 0.2,
    "enc_kl_min": 0.1,
    "lr": 7e-5,
    "niter": 71,
    "niter_decay": 7230,
    "batch_size": 4,
    "loop_repr_type": "fixed-res-polyline",
    "reco_loss_type": "l2",
    "use_eos_token": False,
    "mode": "test",
    "load_epoch": -1,
}
SOFAS = VASES | {
    "dataroot": "datasets/shapenet-sofas",
    "save_dir": "checkpoints/shapenet-sofas-0.02KL-10-24",
    **{
        f"{side}_transformer_{name}": value
        for side in ("enc", "dec")
        for name, value in {"n_layers": 8, "n_heads": 8, "ffwd_size": 768}.items()
    },
    "enc_fc_hidden_sizes": [128, 128],
    "dec_fc_hidden_sizes": [128, 128],
    "enc_kl_weight": 0.02,
    "batch_size": 16,
    "use_eos_token": True,
}


def differences(options, expected):
    given = vars(options)
    return {name: given[name] for name, value in expected.items() if given[name] != value}


def test_published_defaults():
    assert differences(parse_options([]), DEFAULTS) == {}


@pytest.mark.parametrize(
    ("file", "published"), [("vases-optfile.txt", VASES), ("sofas-optfile.txt", SOFAS)]
)
def test_published_settings(file, published):
    assert differences(parse_options(["--optfile", str(ROOT / file)]), published) == {}


def test_both_spellings_of_the_annealing_cycle():
    assert parse_options(["--enc_kl_annealing_cycle", "-1"]).enc_kl_anneal_cycle == -1
    assert parse_options(["--enc_kl_anneal_cycle", "7"]).enc_kl_anneal_cycle == 7


@pytest.mark.parametrize(
    ("word", "value"),
    [("False", False), ("false", False), ("no", False), ("0", False), ("True", True), ("ON", True)],
)
def test_booleans_are_read(word, value):
    assert parse_options(["--use_eos_token", word]).use_eos_token is value


OPTFILE = """\
# a comment with an apostrophe: don't stop
--architecture transformer   # and one at the end of a line

  --enc_fc_hidden_sizes 16
      24 32   \t
--save_dir checkpoints/run#3
--dataroot "my data/with # inside"
--gpu_ids -1\t
"""


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_optfiles(tmp_path, ends, start):
    path = tmp_path / "opt.txt"
    path.write_bytes((start + OPTFILE.replace("\n", ends)).encode())
    # Other arguments are ignored, wrong ones too.
    options = parse_options(["--lr", "5", "--optfile", str(path), "--nonsense"])
    assert options.architecture == "transformer"
    assert options.enc_fc_hidden_sizes == [16, 24, 32]
    assert options.save_dir == "checkpoints/run#3"
    assert options.dataroot == "my data/with # inside"
    assert options.gpu_ids == [-1]
    assert options.lr == 0.001
    assert options.optfile == str(path)


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), min_size=1))
)
def test_quoted_words_come_back_from_an_optfile(tmp_path_factory, words):
    path = tmp_path_factory.getbasetemp() / "words.txt"
    quoted = " ".join("'" + word.replace("'", "'\"'\"'") + "'" for word in words)
    path.write_bytes(quoted.encode())
    assert read_optfile(path) == words


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--latnet_size", "3"], "unknown option --latnet_size; did you mean --latent_size?"),
        (["--qqqqqqqqqqqq=3"], "unknown option --qqqqqqqqqqqq ("),
        (["--latent"], "unknown option --latent; did you mean --latent_size?"),
        (["stray"], "unexpected word 'stray'"),
        (["--latent_size"], "--latent_size: expected one argument"),
        (["--latent_size", "x"], "'x' is not a whole number"),
        (["--latent_size", "0"], "0 is out of range: from 1"),
        (["--lr", "-1"], "-1 is out of range"),
        (["--lr", "nan"], "nan is not finite"),
        (["--lr", "inf"], "inf is not finite"),
        (["--dec_transformer_dropout", "1"], "at least 0.0 and less than 1.0"),
        (["--load_epoch", "-2"], "out of range: at least -1"),
        (["--use_eos_token", "maybe"], "'maybe' is neither True nor False"),
        (["--architecture", "gru"], "invalid choice: 'gru'"),
        (
            ["--enc_transformer_n_heads", "3"],
            "is not a multiple of --enc_transformer_n_heads 3",
        ),
        (["--fourier_map_size", "4"], "--fourier_map_size needs --loop_repr_type"),
        (["--optfile"], "--optfile needs a file name"),
        (["--optfile", "nowhere.txt"], "nowhere.txt: cannot be read"),
    ],
)
def test_mistakes_are_one_line_that_names_them(words, reason):
    with pytest.raises(UserError) as caught:
        parse_options(words)
    message = str(caught.value)
    assert reason in message and "\n" not in message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("--latnet_size 3", "unknown option --latnet_size; did you mean --latent_size?"),
        ("--lr 1\n--dataroot 'open\n", "no end to the quote in line 2"),
        ("--dataroot \\", "no end to the quote in line 1"),
    ],
)
def test_mistakes_in_an_optfile_name_the_file(tmp_path, text, reason):
    path = tmp_path / "opt.txt"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        parse_options(["--optfile", str(path)])
    assert str(caught.value).startswith(f"{path}: {reason}")


def test_an_optfile_that_is_no_text(tmp_path):
    path = tmp_path / "opt.txt"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserError, match="not an optfile"):
        parse_options(["--optfile", str(path)])


def test_require():
    options = parse_options(["--save_dir", "here"])
    require(options, "save_dir", "latent_size")
    with pytest.raises(UserError, match="command line: --dataroot is missing"):
        require(options, "save_dir", "dataroot")


numbers = st.floats(0, 1e6, allow_subnormal=False)


@given(
    words=st.fixed_dictionaries(
        {},
        optional={
            "architecture": st.sampled_from(ARCHITECTURES),
            "loop_repr_type": st.sampled_from(LOOP_REPR_TYPES),
            "use_eos_token": st.booleans(),
            "enc_bidirectional": st.just(True),
            "enc_fc_hidden_sizes": st.lists(st.integers(1, 999), max_size=4),
            "gpu_ids": st.lists(st.integers(-1, 7), min_size=1, max_size=3),
            "load_epoch": st.integers(-1, 10**6),
            "enc_kl_anneal_cycle": st.integers(-1, 10**6),
            "lr": numbers,
            "enc_kl_weight": numbers,
            "dataroot": st.text(
                st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=9
            ).filter(lambda text: text[0] != "-"),
            "save_dir": st.sampled_from(["a b", "#1", "it's", 'a"b', "a#b", "back\\slash"]),
            "seed": st.integers(0, 2**31),
        },
    )
)
def test_the_options_that_a_run_writes_down_repeat_it(tmp_path_factory, words):
    argv = []
    for name, value in words.items():
        values = (
            value if isinstance(value, list) else [] if name == "enc_bidirectional" else [value]
        )
        argv += [f"--{name}", *map(str, values)]
    options = parse_options(argv)
    path = tmp_path_factory.getbasetemp() / "opt.txt"
    path.write_text(format_options(options), encoding="utf-8")
    again = vars(parse_options(["--optfile", str(path)]))
    assert again | {"optfile": None} == vars(options)


def test_every_option_has_help_and_no_default_is_hidden():
    for action in make_parser()._actions:
        assert action.help


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_imports_nothing_heavy(script):
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{script!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / script)!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "heavy = 'torch numpy polyscope trimesh scipy skimage shapely joblib PIL'.split()\n"
        "print('HEAVY', [name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.endswith("HEAVY []\n")
    for option in DEFAULTS:
        assert f"--{option}" in done.stdout


def test_a_mistake_names_the_command_as_it_was_typed(monkeypatch):
    module = types.SimpleNamespace(name="loopdraw.evaluation.__main__")
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", module)
    with pytest.raises(UserError, match="^python -m loopdraw.evaluation: unknown option --nope"):
        parse_options(["--nope"])


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_mistake_ends_a_script_with_status_2_and_one_line(script):
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *shlex.split("--optfile /nowhere/opt.txt")],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: /nowhere/opt.txt: cannot be read")
    assert done.stderr.count("\n") == 1


def test_what_stands_beside_an_optfile_is_warned_of(tmp_path, capsys):
    path = tmp_path / "opt.txt"
    path.write_text("--latent_size 4\n")
    words = ["--optfile", str(path), "--n_samples=3"]
    options = parse_options([*words, "--lr", "5"], beside_optfile=("n_samples",))
    assert options.lr == 0.001 and options.n_samples == 3
    warning = capsys.readouterr().err
    assert warning.startswith("warning: --lr 5 is ignored; of options beside --optfile, only ")
    assert f"only --n_samples counts, so write it into {path} or a copy of that" in warning
    assert warning.count("\n") == 1
    parse_options([*words, "--lr", "5"], beside_optfile=("n_samples", "on", "seeds"))
    assert "only --n_samples, --on and --seeds count, so" in capsys.readouterr().err
    parse_options(["--optfile", str(path), "--lr", "5"])
    assert "; no option beside --optfile counts, so" in capsys.readouterr().err
    parse_options(words, beside_optfile=("n_samples",))
    parse_options([*words, "--lr", "5"], quiet=True)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--latent_size", "1000000000"], "--latent_size: 1000000000 is out of range: from 1 to"),
        (["--dec_transformer_n_layers", "100000"], "n_layers: 100000 is out of range: from 1 to"),
        (["--save_dir", "a" * 5000], r"--save_dir: a+\.\.\.: a path of 5,000 characters is longer"),
        (["--dataroot", "a/" * 5000], r"--dataroot: .*a path of 10,000 characters is longer"),
        (["--dataroot", "a\0b"], "is no path"),
        (["--optfile", "a" * 5000], "cannot be read .File name too long"),
    ],
)
def test_values_beyond_all_bounds(words, reason):
    with pytest.raises(UserError, match=reason):
        parse_options(words)


def test_an_optfile_without_end_is_not_read(tmp_path):
    path = tmp_path / "opt.txt"
    path.write_text("word" * 2_500_000)
    start = time.monotonic()
    with pytest.raises(UserError, match="not an optfile: it has more than 100,000 bytes"):
        parse_options(["--optfile", str(path)])
    with pytest.raises(UserError, match="not an optfile: it has more than 100,000 bytes"):
        parse_options(["--optfile", "/dev/zero"])
    path.write_text("word" * 24_900)
    with pytest.raises(UserError, match="unexpected word"):
        parse_options(["--optfile", str(path)])
    assert time.monotonic() - start < 5
