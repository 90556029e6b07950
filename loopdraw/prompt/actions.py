"""What the inference REPL can queue, and the words of its `submit` command.

Words become actions in two steps: an argparse parser for each kind checks their number and flags,
then `parse_submit` looks at what they mean. The latents and sequences that an action names are
operands of `variables`.
"""

import argparse
import difflib
import shlex
import textwrap
from dataclasses import dataclass

import numpy as np

from loopdraw.editing.edit_files import EditFile, load_edits
from loopdraw.editing.edits import check_completion
from loopdraw.files import UserError
from loopdraw.options import number
from loopdraw.prompt.variables import LATENT_HELP
from loopdraw.surface.export import FORMATS, parse_formats

PAGE = "html"  # the format that `view.html` writes
MAX_QUEUED = 100_000  # actions by one command; more is a slip of the finger


@dataclass(frozen=True, kw_only=True)
class Action:
    """One queued action. `text` is how the queue lists it."""

    text: str
    save: bool = False
    formats: tuple = ()  # files to save beside, of export.FORMATS
    page: bool = False  # save a page for the browser beside
    intervene: bool = False
    edit: EditFile | None = None
    checked: bool = False
    given: object = None  # given.GivenShape whose loops are kept; the operand is its latent
    operands: tuple = ()

    def combine(self, values):
        """The latent (or sequence) to work on, from the values of the operands; None if none."""
        return values[0] if values else None


@dataclass(frozen=True, kw_only=True)
class GroundTruth(Action):
    index: int


@dataclass(frozen=True, kw_only=True)
class Reconstruction(Action):
    index: int
    teacher_forced: bool
    use_enc_sigma: bool = False


@dataclass(frozen=True, kw_only=True)
class Sample(Action):
    number: int | None = None  # of its files; None: the next one
    owner: str = ""  # of the claim to this number


@dataclass(frozen=True, kw_only=True)
class Decode(Action):
    pass


@dataclass(frozen=True, kw_only=True)
class Completion(Action):
    plane: int  # the first one that is made anew
    number: int  # of the n ways, from 0
    n: int
    found: list  # shared by the n actions: all ways, once they are known


@dataclass(frozen=True, kw_only=True)
class Interpolation(Action):
    position: float  # 0 at the first latent, 1 at the second

    def combine(self, values):
        start, end = values
        return (1 - self.position) * start + self.position * end


@dataclass(frozen=True, kw_only=True)
class SequenceView(Action):
    start: int
    end: int | None  # timesteps [start, end) are shown; None: to the last


def counted(n, noun):
    """A number of things in words: "1 action", "3 actions"."""
    return f"{n} {noun}" + ("" if n == 1 else "s")


@dataclass
class Outcome:
    """What became of a task. Where there is an `error`, what came about before it still counts."""

    message: str = ""
    z: np.ndarray | None = None  # (L,)
    sequence: np.ndarray | None = None  # (T, F)
    error: Exception | None = None


# ---------------------------------------------------------------------------------- the submit verb


class WordParser(argparse.ArgumentParser):
    """An argparse parser for the words of one command: its errors are `UserError`s."""

    def error(self, message):
        raise UserError(f"{self.prog}: {message} (usage: {self.usage})")

    def exit(self, status=0, message=None):
        self.error(message or "cannot be read")


KINDS = {  # verb: (what it does, an example)
    "gt": ("item <i> of the dataset, as it is", "submit gt 3 --save"),
    "auto-reco": (
        "encode item <i> of the dataset, then decode it step by step",
        "submit auto-reco 3 --use_enc_sigma",
    ),
    "tf-reco": (
        "encode item <i>, then decode it with every true loop given before the next is asked for "
        "(teacher forcing)",
        "submit tf-reco 3 --save",
    ),
    "sample": ("<n> shapes from random latents", "submit sample 10 --save"),
    "interp": (
        "<n> shapes from latents on the straight line from <z0> to <z1>, ends included",
        "submit interp 8 $a ? --save",
    ),
    "decode": (
        "the shape of the latent <z>, which the user's function or an edit list may change; or, of "
        'a shape given by its loops ("help loops"), what an edit list makes of it',
        'submit decode "|z.txt" --intervene',
    ),
    "complete": (
        "<n> ways to go on with a shape: its loops on the planes below <plane> are kept; <loops> "
        'as in "help loops", or a latent',
        "submit complete $last_pred_seq 12 4 --save",
    ),
    "seq-viz": (
        "show a sequence of loops held in a variable; with <start> and <end>, its timesteps from "
        "<start> up to but not including <end>, counted from 0",
        "submit seq-viz $last_pred_seq 0 12",
    ),
}
FLAGS = {
    "--save": "write inference-#.obj, -latent.txt and -slices.npz to <save_dir>/inference; # is "
    "the next number, or gt<i>, reco<i>, seqviz (and then -1, -2, ...); nothing is overwritten",
    "--format": "with --save, write the shape in more formats, as in --format glb,svg: "
    f"{', '.join([*FORMATS, PAGE])}",
    "--intervene": "pass every loop through loop_inference_intervention_func.py, which is read "
    "again from disk first",
    "--edit": "change loops by an edit list that the edit window saved, inference-#-edit.json; "
    "written as <file> or ||<file>",
    "--checked": "draw again, up to 10 times, when a shape is not one closed solid or a part of "
    "it ends in air",
    "--after": "with --edit, what comes above the edited loops: regenerate, keep (the loops that "
    "were there), or a number of planes, over which the loops go back to those that were there",
    "--use_enc_sigma": "sample the latent with the encoder's sigma, instead of taking its mean",
}
VALUE_OF = {
    "--format": "<names>",
    "--edit": "<file>",
    "--after": "<what>",
}  # of flags that take one
FLAGS_OF = {
    verb: ["--save", "--format"]
    + (["--intervene"] if verb in ("sample", "interp", "decode") else [])
    + (["--checked"] if verb == "sample" else [])
    + (["--edit", "--after"] if verb == "decode" else [])
    + (["--use_enc_sigma"] if verb.endswith("reco") else [])
    for verb in KINDS
}
OPERANDS = {"sample": "<n>", "interp": "<n> <z0> <z1>", "decode": "<z>"} | {
    "seq-viz": "<$seq> [<start> <end>]",
    "complete": "<loops> <plane> <n>",
}


def usage(verb):
    """The words of `submit <verb>`, as help shows them."""
    flags = " ".join(f"[{' '.join([flag, *_value_of(flag)])}]" for flag in FLAGS_OF[verb])
    return f"submit {verb} {OPERANDS.get(verb, '<i>')} {flags}"


def _value_of(flag):
    return [VALUE_OF[flag]] if flag in VALUE_OF else []


def make_submit_parser(verb):
    """The argparse parser of `submit <verb>`."""
    what, example = KINDS[verb]
    parser = WordParser(
        prog=f"submit {verb}",
        usage=usage(verb),
        description=what[0].upper() + what[1:] + ".",
        epilog=f"example: {example}",
        add_help=False,
        allow_abbrev=False,
    )
    add = parser.add_argument
    if verb in ("gt", "auto-reco", "tf-reco"):
        add("index", metavar="<i>", type=number(int, 0), help="index into the dataset, from 0")
    if verb == "complete":
        add("z", metavar="<loops>", help='a shape by its loops: "help loops"; or a latent')
        add("plane", metavar="<plane>", type=number(int, 1), help="the first plane made anew")
    if verb in ("sample", "interp", "complete"):
        add("n", metavar="<n>", type=number(int, 1, MAX_QUEUED), help="how many")
    for name in {"interp": ("z0", "z1"), "decode": ("z",)}.get(verb, ()):
        add(name, metavar=f"<{name}>", help='a latent: ? $name |file ||file ("help latents")')
    if verb == "seq-viz":
        add("sequence", metavar="<$seq>", help="a variable that holds a sequence")
        add("start", metavar="<start>", type=number(int, 0), nargs="?", help="first timestep")
        add("end", metavar="<end>", type=number(int, 1), nargs="?", help="end, not included")
    for flag in FLAGS_OF[verb]:
        kind = {"metavar": VALUE_OF[flag]} if flag in VALUE_OF else {"action": "store_true"}
        add(flag, help=FLAGS[flag], **kind)
    return parser


def parse_submit(words, reader, n_items, awaited=()):
    """The actions that the words after `submit` ask for.

    Parameters
    ----------
    words : list of str
    reader : ValueReader
    n_items : function without arguments, the number of items in the dataset
    awaited : names of variables that queued actions will set

    Returns
    -------
    list of Action, at least one

    Raises
    ------
    UserError
        When the words are wrong, or a value that they name is missing or unfit.
    """
    verb = words[0] if words else ""
    if verb not in KINDS:
        nearest = difflib.get_close_matches(verb, KINDS, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"it is one of {', '.join(KINDS)}"
        raise UserError(f"submit: no action {verb!r}; {hint}")
    given = make_submit_parser(verb).parse_intermixed_args(words[1:])
    flags = {flag: getattr(given, flag[2:]) for flag in FLAGS_OF[verb]}
    common = {flag[2:]: True for flag, value in flags.items() if value is True}
    if flags["--format"] is not None:
        formats = parse_formats(given.format, [PAGE])
        common["formats"] = tuple(name for name in formats if name != PAGE)
        common["page"] = PAGE in formats
        if not given.save:
            raise UserError(f"submit {verb}: --format goes with --save")
    if flags.get("--checked") and given.intervene:
        raise UserError(f"submit {verb}: --checked and --intervene exclude each other")
    if flags.get("--edit") is not None:
        if given.intervene:
            raise UserError(f"submit {verb}: --edit and --intervene exclude each other")
        common["edit"] = load_edits(reader.path(given.edit))
    if flags.get("--after") is not None:
        if "edit" not in common:
            raise UserError(f"submit {verb}: --after goes with --edit")
        common["edit"] = common["edit"]._replace(after=parse_after(given.after))

    def text(*parts):
        for flag, value in flags.items():
            if value:
                parts += (flag,) if value is True else (flag, value)
        words = map(str, (verb, *parts))
        return " ".join(shlex.quote(word) if " " in word else word for word in words)

    if verb in ("gt", "auto-reco", "tf-reco"):
        if given.index >= n_items():
            raise UserError(
                f"submit {verb}: no item {given.index}; the dataset has {n_items()}, "
                f"from 0 to {n_items() - 1}"
            )
        common |= {"text": text(given.index), "index": given.index}
        if verb == "gt":
            return [GroundTruth(**common)]
        return [Reconstruction(teacher_forced=verb == "tf-reco", **common)]
    if verb == "sample":
        return [
            Sample(text=text(), operands=(reader.operand("?", reader.check_latent),), **common)
            for _ in range(given.n)
        ]
    if verb == "decode":
        operand, shape = reader.shape(given.z, awaited)
        if given.intervene and (shape is not None or operand.is_sequence):
            raise UserError("submit decode: --intervene goes with a latent")
        return [Decode(text=text(given.z), operands=(operand,), given=shape, **common)]
    if verb == "complete":
        operand, shape = reader.shape(given.z, awaited)
        if reader.settings.n_planes is not None:
            planes = None if shape is None else shape.planes
            check_completion(given.plane, reader.settings.n_planes, planes)
        return [
            Completion(
                text=text(given.z, given.plane, f"{i + 1}/{given.n}"),
                operands=(operand,),
                given=shape,
                plane=given.plane,
                number=i,
                n=given.n,
                found=found,
                **common,
            )
            for found in [[]]
            for i in range(given.n)
        ]
    if verb == "interp":
        ends = tuple(reader.operand(z, reader.check_latent, awaited) for z in (given.z0, given.z1))
        return [
            Interpolation(
                text=text(f"{i + 1}/{given.n}", given.z0, given.z1),
                operands=ends,
                position=i / max(given.n - 1, 1),
                **common,
            )
            for i in range(given.n)
        ]
    if (given.start is None) != (given.end is None):
        raise UserError("submit seq-viz: give both <start> and <end>, or neither")
    if given.end is not None and given.start >= given.end:
        raise UserError(f"submit seq-viz: start {given.start} is not before end {given.end}")
    operand = reader.operand(given.sequence, reader.check_sequence, awaited)
    bounds = [] if given.end is None else [given.start, given.end]
    return [
        SequenceView(
            text=text(given.sequence, *bounds),
            operands=(operand,),
            start=given.start or 0,
            end=given.end,
            **common,
        )
    ]


def parse_after(word):
    """What comes above edited loops: None for "regenerate", 0 for "keep", or a number of planes."""
    if word in ("regenerate", "keep"):
        return 0 if word == "keep" else None
    try:
        return number(int, 0)(word)
    except argparse.ArgumentTypeError:
        raise UserError(
            f"--after {word!r} is none of regenerate, keep and a number of planes"
        ) from None


def submit_help():
    """What `help submit` prints."""
    texts = []
    for verb, (what, example) in KINDS.items():
        described = textwrap.fill(what, 92, initial_indent="    ", subsequent_indent="    ")
        texts.append(f"{usage(verb)}\n{described}\n    example: {example}")
    flags = '"help submit sample" (and so on) describes the flags. "run" performs what is queued.'
    return "\n".join([*texts, "", LATENT_HELP, "", flags])
