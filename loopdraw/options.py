"""The options of every script, in one parser, and optfiles.

An optfile holds options as they would stand on the command line, spread over lines at will, with
`#` comments and shell quoting. When `--optfile` is given, the other arguments are ignored, but
for those that a script names.
"""

import argparse
import difflib
import errno
import inspect
import math
import os
import re
import shlex
import sys

from loopdraw.files import UserError, read_text

ARCHITECTURES = ("lstm", "transformer", "lstm+transformer", "pointnet+transformer")
MOST_BYTES = 100_000  # of an optfile
MOST_UNITS, MOST_LAYERS = 16_384, 1000  # of a layer, of a network: more fit no machine
LOOP_REPR_TYPES = ("ellipse-single", "ellipse-multiple", "fixed-res-polyline")


def parse_options(argv=None, description=None, beside_optfile=(), quiet=False):
    """Parse the options of a script, from `argv` or the command line.

    Parameters
    ----------
    argv : list of str, or None for the command line
    description : what the script does, for `--help`
    beside_optfile : names of options of one value that are read from `argv` even when it names an
        optfile, and count more than what that says
    quiet : bool, do not warn of other options beside an optfile

    Returns
    -------
    argparse.Namespace, one attribute an option

    Raises
    ------
    UserError
        For an unknown option (naming the nearest known one), a missing or wrong value, or an
        optfile that cannot be read.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    optfile_only = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    optfile_only.add_argument("--optfile", nargs="?", const="")
    given, others = optfile_only.parse_known_args(argv)
    optfile = given.optfile
    parser = make_parser(description)
    if optfile is not None and not {"-h", "--help"} & set(argv):
        if not optfile:
            parser.error("--optfile needs a file name")
        beside, ignored = _only(beside_optfile, others)
        parser.parse_args(beside)  # what is wrong with these is not the optfile's fault
        if ignored and not quiet:
            print(
                f"warning: {shlex.join(ignored)} is ignored; {_may_stand_beside(beside_optfile)}, "
                f"so write it into {optfile} or a copy of that",
                file=sys.stderr,
            )
        argv, parser.source = read_optfile(optfile) + beside, optfile
    options = parser.parse_args(argv)
    options.optfile = optfile
    _check(options, parser)
    return options


# A comment, a word with its quotes, or what is neither: a quote that is not closed. (shlex takes
# any # for a comment, also one inside a file name.)
_TOKENS = re.compile(
    r"""(?P<comment>\#[^\n]*)|(?P<word>(?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|[^\s"'\\])+)|(?P<rest>\S)""",
    re.DOTALL,
)


def read_optfile(path):
    """The words of an optfile, comments dropped and quotes resolved."""
    words = []
    text = read_text(path, what="an optfile", most_bytes=MOST_BYTES)
    for token in _TOKENS.finditer(text):
        if token["rest"]:
            line = text.count("\n", 0, token.start()) + 1
            raise UserError(f"{path}: no end to the quote in line {line}; close it")
        if token["word"]:
            words += shlex.split(token["word"])
    return words


def _only(names, argv):
    """The words of `argv` that give the named options, each of one value, and all others."""
    parser = argparse.ArgumentParser(
        add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS
    )
    for name in names:
        parser.add_argument(f"--{name}", nargs="?", const="")
    given, others = parser.parse_known_args(argv)
    words = [word for name, value in vars(given).items() for word in (f"--{name}", value) if word]
    return words, others


def _may_stand_beside(names):
    """In words, which options count beside an optfile."""
    options = [f"--{name}" for name in names]
    if not options:
        return "no option beside --optfile counts"
    if len(options) == 1:
        return f"of options beside --optfile, only {options[0]} counts"
    listed = f"{', '.join(options[:-1])} and {options[-1]}"
    return f"of options beside --optfile, only {listed} count"


def format_options(options):
    """The options as text for `opt.txt`: itself an optfile that repeats the run."""
    lines = []
    for name, value in sorted(vars(options).items()):
        if name == "optfile" or value is None or value is False:
            continue
        words = [] if value is True and name != "use_eos_token" else value
        words = words if isinstance(words, (list, tuple)) else [words]
        lines.append(" ".join([f"--{name}", *(shlex.quote(str(word)) for word in words)]))
    return "\n".join(lines) + "\n"


def _command():
    """What was typed to start this program, if it was `python -m`; None for a script."""
    module = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {module.name.removesuffix('.__main__')}" if module else None


class Parser(argparse.ArgumentParser):
    """A parser whose errors are `UserError`s that name the source and the nearest option."""

    source = None

    def __init__(self, prog=None, **settings):
        super().__init__(prog=prog or _command(), **settings)

    def parse_args(self, args=None, namespace=None):
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(self._explain(unknown[0]))
        return options

    def _explain(self, word):
        if not word.startswith("--"):
            return f"unexpected word {word!r}"
        name = word.split("=")[0]
        known = list(self._option_string_actions)
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        return f"unknown option {name}{hint}"

    def _print_message(self, message, file=None):
        # argparse would not say that it could not.
        (file or sys.stderr).write(message)

    def error(self, message):
        raise UserError(f"{self.source or self.prog}: {message} (--help lists the options)")


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows the default of an option unless there is none."""

    def _get_help_string(self, action):
        if action.default in (None, False, argparse.SUPPRESS):
            return action.help
        return super()._get_help_string(action)


def _boolean(word):
    if word.lower() in ("true", "yes", "on", "1"):
        return True
    if word.lower() in ("false", "no", "off", "0"):
        return False
    raise argparse.ArgumentTypeError(f"{word!r} is neither True nor False")


def number(kind, low=None, high=None, below=None):
    """An argparse type: an int or float from `low` to `high`, or to just under `below`."""
    name = "whole number" if kind is int else "number"

    def convert(word):
        try:
            value = kind(word)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{word!r} is not a {name}") from None
        if not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"{word} is not finite")
        too_high = (high is not None and value > high) or (below is not None and value >= below)
        if (low is not None and value < low) or too_high:
            wanted = f"at least {low}" if high is None else f"from {low} to {high}"
            wanted += "" if below is None else f" and less than {below}"
            raise argparse.ArgumentTypeError(f"{word} is out of range: {wanted}")
        return value

    return convert


def file_name(word):
    """An argparse type: a path that the system takes, whether it is there or not."""
    try:
        os.lstat(word)
    except ValueError as error:  # a zero byte
        raise argparse.ArgumentTypeError(f"{word!r} is no path ({error})") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise argparse.ArgumentTypeError(
                f"{word[:60]}...: a path of {len(word):,} characters is longer than the system "
                "takes"
            ) from None
    return word


def make_parser(description=None):
    """The parser behind `parse_options`."""
    count, natural = number(int, low=1), number(int, low=0)
    units, layers = number(int, 1, MOST_UNITS), number(int, 1, MOST_LAYERS)
    share, amount = number(float, low=0.0, below=1.0), number(float, low=0.0)
    parser = Parser(
        description=description,
        formatter_class=_HelpFormatter,
        # An abbreviation that works today is ambiguous when an option is added tomorrow.
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--optfile",
        metavar="FILE",
        help="read the options from this file; all other arguments are then ignored",
    )

    add = parser.add_argument_group("data").add_argument
    add(
        "--dataroot",
        type=file_name,
        metavar="DIR",
        help="dataset folder, with train/ and optionally test/",
    )
    add(
        "--loop_repr_type",
        choices=LOOP_REPR_TYPES,
        default="ellipse-multiple",
        help="how a loop becomes a timestep",
    )
    add(
        "--use_eos_token",
        type=_boolean,
        default=False,
        metavar="{True,False}",
        help="close each sequence with an end-of-sequence timestep",
    )
    add(
        "--data_norm_by",
        choices=("per_value", "whole_array", "none"),
        default="per_value",
        help="normalise each feature, or the whole array by two scalars, or not at all",
    )
    add(
        "--max_timesteps",
        type=count,
        metavar="N",
        help="leave out meshes with more timesteps (loops, and the end-of-sequence timestep)",
    )
    add("--batch_size", type=count, default=4, metavar="N", help="shapes in a batch")
    add(
        "--num_workers",
        type=natural,
        default=0,
        metavar="N",
        help="processes that slice meshes; 0: one a core",
    )
    add(
        "--mesh_timeout",
        type=number(float, low=1.0),
        default=120.0,
        metavar="SECONDS",
        help="a mesh that takes longer to slice counts as failed",
    )
    add(
        "--dask_scheduler",
        metavar="ADDRESS",
        help="slice meshes, and at the prompt make samples, on the machines of this Dask "
        "scheduler, such as tcp://HOST:8786",
    )

    add = parser.add_argument_group("run").add_argument
    add("--mode", choices=("train", "test"), default="train", help="train, or test on whole sets")
    add(
        "--save_dir",
        type=file_name,
        metavar="DIR",
        help="folder of checkpoints, logs and inference outputs",
    )
    add(
        "--load_epoch",
        type=number(int, low=-1),
        metavar="N",
        help="load the checkpoint of this epoch; -1: the latest",
    )
    add(
        "--gpu_ids",
        type=number(int, low=-1),
        nargs="+",
        default=[0],
        metavar="N",
        help="GPUs to use; -1: the CPU",
    )
    add("--seed", type=natural, metavar="N", help="make the run repeatable")
    add(
        "--n_samples",
        type=count,
        metavar="N",
        help="shapes that an evaluation generates; as many as the test set has by default",
    )
    add(
        "--seeds",
        type=count,
        default=1,
        metavar="N",
        help="times that an evaluation samples, with seeds from --seed on",
    )
    add(
        "--on",
        choices=("val", "test"),
        default="test",
        help="the set that an evaluation measures on",
    )
    add(
        "--prior",
        choices=("auto", "normal"),
        default="auto",
        help="draw random latents from the prior fitted to the checkpoint, if there is one, or "
        "always from the standard normal",
    )
    add(
        "--load_test_set_for_inference",
        action="store_true",
        help="the data of the REPL's commands is the test set",
    )

    add(
        "--viewer",
        choices=("polyscope", "browser", "none"),
        help="where the REPL shows and edits shapes: in windows, on a page in the browser, or "
        "nowhere; by default in windows if there is a display, else on a page if the commands are "
        "typed",
    )
    add(
        "--viewer_host",
        metavar="ADDRESS",
        help="let the page in the browser listen on this address of the machine; by default only "
        "this machine itself can open it",
    )

    add = parser.add_argument_group("meshes that the REPL saves").add_argument
    add(
        "--reco",
        choices=("loops", "poisson"),
        default="loops",
        help="rebuild surfaces from the loops themselves, or as the paper does, by screened "
        "Poisson reconstruction (which needs pymeshlab)",
    )
    add(
        "--reco_resolution",
        type=number(int, low=8, below=1025),
        metavar="N",
        help="grid cells along the longest side where loops end, split or merge, for --reco loops; "
        "by default 48, or 80 for thin parts",
    )
    add(
        "--mesh_seconds",
        type=number(float, low=1.0),
        default=60.0,
        metavar="SECONDS",
        help="a mesh that takes longer to make is given up",
    )
    add(
        "--save_format",
        choices=("obj", "ply", "stl", "glb"),
        nargs="+",
        default=["obj"],
        metavar="{obj,ply,stl,glb}",
        help="kinds of mesh files",
    )

    add = parser.add_argument_group("training").add_argument
    add(
        "--count_from_epoch",
        type=natural,
        default=0,
        metavar="N",
        help="number of the first epoch, when resuming",
    )
    add("--niter", type=natural, default=20, metavar="N", help="epochs at the full learning rate")
    add(
        "--niter_decay",
        type=natural,
        default=20,
        metavar="N",
        help="epochs over which the learning rate then falls to zero",
    )
    add("--lr", type=amount, default=0.001, metavar="X", help="learning rate")
    add(
        "--lr_schedule",
        choices=("linear", "cosine"),
        default="linear",
        help="how the learning rate falls: as --niter_decay says, or in half a cosine over all "
        "epochs, step by step",
    )
    add(
        "--optimizer",
        choices=("adam", "adamw", "muon"),
        default="adam",
        help="optimizer; muon: Muon for the hidden matrices, AdamW for the other weights",
    )
    add(
        "--weight_decay",
        type=amount,
        metavar="X",
        help="weight decay; by default 0 for adam and 0.01 for the others",
    )
    add(
        "--clip_grad",
        type=amount,
        metavar="X",
        help="limit the norm of the gradient of both networks together",
    )
    add(
        "--ema",
        type=share,
        default=0.0,
        metavar="X",
        help="keep an exponential moving average of the weights with this decay, such as 0.999; "
        "the average is what is tested and saved as the model",
    )
    add(
        "--save_every",
        type=count,
        default=10,
        metavar="N",
        help="epochs between checkpoints",
    )
    add(
        "--bucket_batches",
        action="store_true",
        help="make batches of shapes of like length; an incomplete last one is left out",
    )
    add(
        "--rare_loops_weight",
        type=amount,
        default=1.0,
        metavar="X",
        help="weight of the points of the third loop of a plane and the like: of loops whose "
        "number fewer than a fifth of the planes reach",
    )
    add(
        "--joints_weight",
        type=amount,
        default=1.0,
        metavar="X",
        help="weight of the points of loops on planes beside which the number of loops changes, "
        "where parts begin, end, split or merge",
    )
    add("--reco_loss_type", choices=("l1", "l2"), default="l2", help="reconstruction loss")
    add(
        "--binary_flag_loss_weight",
        type=amount,
        default=1.0,
        metavar="X",
        help="weight of the level-up flag's cross-entropy",
    )
    add(
        "--enc_kl_weight",
        type=amount,
        default=0.5,
        metavar="X",
        help="weight of the KL term; 0: a plain autoencoder",
    )
    add("--enc_kl_min", type=amount, default=0.05, metavar="X", help="floor of the KL term")
    add(
        "--enc_kl_anneal_cycle",
        "--enc_kl_annealing_cycle",
        type=number(int, low=-1),
        default=100,
        metavar="N",
        help="iterations of an annealing cycle; -1: no annealing",
    )
    add(
        "--enc_kl_anneal_formula",
        choices=("ramp", "cyclic"),
        default="ramp",
        help="how the KL term is annealed",
    )

    add(
        "--augment",
        action="store_true",
        help="vary the training shapes at random: mirror, scale, rotate, shear, jitter",
    )
    add(
        "--disturb_history",
        action="store_true",
        help="train with some of the loops before each one moved a little or left out",
    )
    add(
        "--vary_profile",
        type=amount,
        default=0.0,
        metavar="X",
        help="scale the training shapes at random, smoothly along the scan axis; 0.04 is a little",
    )
    add(
        "--vary_spacing",
        type=amount,
        default=0.0,
        metavar="X",
        help="stretch and squeeze the training shapes at random along the scan axis; 1 is a lot",
    )
    add(
        "--mirror_planes",
        action="store_true",
        help="reverse the order of the planes of half of the training shapes",
    )
    add(
        "--practise_edits",
        type=share,
        default=0.0,
        metavar="SHARE",
        help="edit this share of the training shapes at random, unknown to their latents, so that "
        "loops learn to follow edited ones; 0.5 is a good start",
    )
    add(
        "--order_ties",
        action="store_true",
        help="order loops of a plane that are equally large by where they lie",
    )
    add(
        "--whiten_latents",
        action="store_true",
        help="in the models that are saved, move the training set's latents to mean 0 and "
        "covariance 1",
    )
    add(
        "--fit_prior",
        choices=("mixture", "flow"),
        help="after training, fit this kind of prior to the latents of the training set",
    )
    add("--amp", action="store_true", help="train in mixed precision (bfloat16)")
    add("--compile", action="store_true", help="train through torch.compile")

    add = parser.add_argument_group("networks").add_argument
    add("--architecture", choices=ARCHITECTURES, default="lstm", help="encoder and decoder")
    add("--latent_size", type=units, default=8, metavar="N", help="numbers in a latent")
    add(
        "--enc_fc_hidden_sizes",
        type=units,
        nargs="*",
        default=[64, 64],
        metavar="N",
        help="hidden sizes of the fully connected nets before the latent",
    )
    add(
        "--dec_fc_hidden_sizes",
        type=units,
        nargs="*",
        default=[64, 64],
        metavar="N",
        help="hidden sizes of the fully connected nets after the latent",
    )
    add(
        "--transformer_arch_version",
        type=int,
        choices=(0, 1, 2, 3, 4),
        default=0,
        help="how the latent enters the transformer decoder: 0 to 3 as published; 4 plans the "
        "shape before it decodes it",
    )
    for side, name in (("enc", "encoder"), ("dec", "decoder")):
        for what, default, words in (
            ("d_model", 128, "width"),
            ("n_layers", 4, "layers"),
            ("n_heads", 1, "attention heads"),
            ("ffwd_size", 256, "feed-forward width"),
        ):
            add(
                f"--{side}_transformer_{what}",
                type=layers if what == "n_layers" else units,
                default=default,
                metavar="N",
                help=f"{words} of the transformer {name}",
            )
    add(
        "--dec_transformer_dropout",
        type=share,
        default=0.0,
        metavar="X",
        help="dropout of the transformer decoder, while training",
    )
    add(
        "--fourier_map_size",
        type=units,
        metavar="N",
        help="Fourier features of each point before the decoder",
    )
    add(
        "--fourier_map_sigma",
        type=amount,
        default=4.0,
        metavar="X",
        help="standard deviation of their frequencies",
    )
    add(
        "--enc_lstm_hidden_size",
        type=units,
        default=64,
        metavar="N",
        help="hidden size of the LSTM encoder",
    )
    add("--enc_bidirectional", action="store_true", help="LSTM encoder reads both ways")
    add(
        "--lstm_hidden_size",
        type=units,
        default=64,
        metavar="N",
        help="hidden size of the LSTM decoder",
    )
    add("--lstm_n_layers", type=layers, default=1, metavar="N", help="layers of the LSTM decoder")
    add("--pointnet_hidden_size", type=units, default=128, metavar="N", help="PointNet width")
    return parser


def _check(options, parser):
    """Combinations that no single option shows to be wrong."""
    for side in ("enc", "dec"):
        width = getattr(options, f"{side}_transformer_d_model")
        heads = getattr(options, f"{side}_transformer_n_heads")
        if width % heads:
            parser.error(
                f"--{side}_transformer_d_model {width} is not a multiple of "
                f"--{side}_transformer_n_heads {heads}"
            )
    if options.augment and (
        options.loop_repr_type != "fixed-res-polyline"
        or options.architecture.startswith("pointnet")
    ):
        parser.error(
            "--augment needs --loop_repr_type fixed-res-polyline and an encoder that reads loops"
        )
    if options.transformer_arch_version == 4:
        if options.loop_repr_type == "ellipse-single" or options.fourier_map_size:
            parser.error(
                "--transformer_arch_version 4 needs a --loop_repr_type with several loops a plane, "
                "and takes no --fourier_map_size"
            )
        for name in ("enc_fc_hidden_sizes", "dec_fc_hidden_sizes"):
            if len(getattr(options, name)) != 1:
                parser.error(f"--transformer_arch_version 4 takes one size as --{name}")
    for name in (
        *("disturb_history", "vary_profile", "vary_spacing", "mirror_planes", "practise_edits"),
        "order_ties",
    ):
        if getattr(options, name) and options.loop_repr_type != "fixed-res-polyline":
            parser.error(f"--{name} needs --loop_repr_type fixed-res-polyline")
    if options.transformer_arch_version != 4 or not options.architecture == "transformer":
        for name in ("vary_spacing", "mirror_planes"):
            if getattr(options, name):
                parser.error(
                    f"--{name} changes lengths, so it needs --architecture transformer with "
                    "--transformer_arch_version 4"
                )
        for name in ("rare_loops_weight", "joints_weight"):
            if getattr(options, name) != 1:
                parser.error(f"--{name} needs --transformer_arch_version 4")
        if options.practise_edits:
            parser.error("--practise_edits needs --transformer_arch_version 4")
    if options.vary_profile and options.architecture.startswith("pointnet"):
        parser.error("--vary_profile needs an encoder that reads loops")
    if options.whiten_latents and options.enc_kl_weight == 0:
        parser.error("--whiten_latents needs a VAE: --enc_kl_weight above 0")
    if options.fourier_map_size and options.loop_repr_type != "fixed-res-polyline":
        parser.error("--fourier_map_size needs --loop_repr_type fixed-res-polyline")


def options_for(function, options):
    """The options that a function (or class) takes as keyword arguments of the same names.

    Parameters
    ----------
    function : callable
    options : what `parse_options` returns, or a dict of the same

    Returns
    -------
    dict of name to value
    """
    names = inspect.signature(function).parameters
    options = options if isinstance(options, dict) else vars(options)
    return {name: value for name, value in options.items() if name in names}


def require(options, *names):
    """Raise a `UserError` for the first of these options that was not given."""
    for name in names:
        if getattr(options, name) is None:
            source = options.optfile or "command line"
            raise UserError(
                f"{source}: --{name} is missing; give it, or use an --optfile that does"
            )
