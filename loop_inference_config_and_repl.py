"""The inference REPL: its commands, its queue, and what it asks of an engine.

The REPL knows nothing of networks, meshes and windows. What is queued is performed by an *engine*,
any object with these methods:

`n_items() -> int`
    Number of items in the dataset; `UserError` when there is none.
`prepare(actions) -> list of str`
    Called once before each `run` with the actions that it is going to perform: warnings to print.
`perform(tasks) -> iterator of Outcome`
    Perform tasks (`queue.Task`), yielding the outcome of each, in order, as soon as
    it is there. The REPL hands over together what may be decoded as one batch.
`closest_matches(sequences) -> (n, 2) float or None`
    For each sequence of a (n, timesteps, features) array, index and mean squared difference of the
    nearest training item; None without a dataset.
`edit(title, latent, edit_file, read_latent, read_loops, given, after)`
    Let the user edit a shape with the mouse: its latent, sequence and a message; `UserError` where
    no window can be opened.
`loops_of(sequence) -> list of (k, 2) loops`
`given_item(index)`, `given_slices(planes, loops)`, `given_file(edit_file) -> GivenShape`
    A shape given by its loops: an item of the dataset, slices, what an edit file holds (or None).
`given_mesh(encoded) -> GivenShape`
`encode_mesh(path, fit, refine, up) -> own_mesh.EncodedMesh`
"""

import argparse
import inspect
import itertools
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loopdraw.editing.edit_files import load_edits
from loopdraw.files import UserError, write_aside
from loopdraw.loops.mesh_files import UPS
from loopdraw.loops.slices_files import load_slices
from loopdraw.model.prior import NormalPrior
from loopdraw.options import number
from loopdraw.prompt.actions import (
    FLAGS_OF,
    KINDS,
    WordParser,
    counted,
    make_submit_parser,
    parse_after,
    parse_submit,
    submit_help,
)
from loopdraw.prompt.queue import ActionQueue
from loopdraw.prompt.runner import Runner
from loopdraw.prompt.terminal import TerminalCmd, last_word, matching_files, starting
from loopdraw.prompt.variables import LATENT_HELP, LOOPS_HELP, RUN_VARIABLES, ValueReader, Variables


@dataclass
class LoopInferenceSettings:
    """What the REPL must know of the model, and where it reads and writes."""

    save_dir: Path  # of the checkpoint; outputs go to its folder `inference`
    latent_size: int
    n_features: int  # of a timestep
    no_polyscope: bool = False  # show no windows
    seed: int | None = None  # None: another one in each session
    prior: object = None  # what random latents are drawn from; None: the standard normal
    n_planes: int | None = None  # None: not known here, so a wrong plane fails when it is run

    def __post_init__(self):
        self.prior = self.prior or NormalPrior(self.latent_size)


class InferenceREPL(TerminalCmd):
    """The command interpreter.

    Parameters
    ----------
    settings : LoopInferenceSettings
    engine : performs the actions; see the top of this file
    stdin, stdout : text streams; those of the process by default
    cluster : cluster.Cluster that makes the samples that are saved, or None
    """

    def __init__(self, settings, engine, stdin=None, stdout=None, cluster=None):
        super().__init__("inference", stdin, stdout)
        self.settings = settings
        self.engine = engine
        self.variables = Variables(engine.closest_matches)
        self.reader = ValueReader(settings, self.variables, self._read_given)
        self.encoded = {}  # name of a variable -> EncodedMesh
        self.queue = ActionQueue(self.reader, settings.seed)
        self.runner = Runner(self.queue, engine, self.variables, self, cluster)

    # ------------------------------------------------------------------------------ queue and run

    def do_submit(self, line):
        # What is queued may set these before the new actions run.
        awaited = ("last_z", "last_pred_seq") if self.queue else ()
        actions = parse_submit(_words(line), self.reader, self.engine.n_items, awaited)
        self.queue.extend(actions)
        self.say(f"queued {counted(len(actions), 'action')}, {len(self.queue)} in the queue")

    def do_run(self, line):
        """run            perform the first action of the queue
        run <n>        perform the first n
        run all        perform all

        Each prints a line. An action that fails is reported and the others go on. Ctrl-C stops the
        one that is running; the rest stay queued. Actions that can be decoded together are, with
        the same results as one by one.
        """
        words = _words(line) or ["1"]
        if len(words) > 1:
            raise UserError("run takes one word: run, run <n> or run all")
        n_left = len(self.queue) if words[0] == "all" else _whole_number(words[0], "run", 1)
        n_left = min(n_left, len(self.queue))
        if not n_left:
            self.say("the queue is empty")
            return
        self.runner.run(n_left)

    def do_queue(self, line):
        """queue          list the actions that wait
        queue pop      remove the first, the one that `run` would perform next
        queue clear    remove all
        """
        words = _words(line)
        if words == ["clear"]:
            self.say(f"removed {counted(len(self.queue), 'action')}")
            self.queue.clear()
        elif words == ["pop"]:
            if not self.queue:
                raise UserError("the queue is empty; nothing to remove")
            self.say(f"removed {self.queue.pop().text}")
        elif words:
            raise UserError("queue takes one word: queue, queue pop or queue clear")
        else:
            self._list_queue()

    def _list_queue(self):
        if not self.queue:
            self.say("the queue is empty")
        first = 1
        for text, group in itertools.groupby(self.queue, lambda action: action.text):
            last = first + len(list(group)) - 1
            numbers = f"{first}" if first == last else f"{first}-{last}"
            self.say(f"{numbers:>9}  {text}")
            first = last + 1

    # -------------------------------------------------------------- editing, and meshes of your own

    def do_edit(self, line):
        """edit <z> [--edit <file>] [--after <what>]      change loops of a shape with the mouse

        A window opens, or a page in the browser (--viewer). The loops above follow as you drag; the
        panel saves the shape and more. When you close it, the edit list is kept in a file, and
        last_z and last_pred_seq are the shape's. <z> is a latent, or a shape given by its loops
        ("help loops").

        edit ?                                     a random shape
        edit ||inference/inference-0-edit.json     a saved edit list, with its latent
        edit $a --edit ||inference/inference-0-edit.json    the same edits of another shape

        edit $mine.loops                           a mesh that was encoded, as it is
        edit $mine.loops --after keep              the loops above an edited one stay, too

        --after is regenerate, keep or a number of planes, as with submit decode ("help submit
        decode"). In a script: submit decode <z> --edit <file> --save
        """
        usage = "edit <z> [--edit <file>] [--after <what>]"
        parser = WordParser(prog="edit", usage=usage, add_help=False)
        parser.add_argument("z", metavar="<z>")
        parser.add_argument("--edit")
        parser.add_argument("--after")
        given = parser.parse_intermixed_args(_words(line))
        file = given.edit or (given.z if given.z.endswith(".json") else None)
        edit_file = None if file is None else load_edits(self.reader.path(file))
        operand, shape = self.reader.shape(given.z)
        latent = self.queue.draw(operand)
        after = None if edit_file is None else edit_file.after
        after = parse_after(given.after) if given.after else after
        latent, sequence, message = self.engine.edit(
            f"edit {given.z}",
            latent,
            edit_file,
            read_latent=lambda word: self._value(word, self.reader.check_latent),
            read_loops=self._read_loops,
            given=shape,
            after=after,
        )
        self.variables["last_z"], self.variables["last_pred_seq"] = latent, sequence
        self.say(f"edit {given.z}: {message}")

    def do_encode(self, line):
        """encode <name> <mesh file> [--fit] [--up z] [--no-refine]   the latent of your own mesh

        The file may be of any format that trimesh reads. --fit centres it and makes its longest
        side 1; without it, it must lie where the shapes of the dataset do. --up z, or another axis,
        or --up=-z, says what is up in the file, if that is not the model's axis: it is turned.

        encode chair chair.glb --fit
        submit interp 8 $chair ? --save

        The latent is improved until the shape comes nearer to the mesh, for three seconds at
        most; --no-refine keeps the one that the encoder gives.

        $chair is then the model's version. $chair.loops are the mesh's own loops, which can be
        edited and completed ("help loops").

        What is said then is how many of its loops the model can take, whether the shape that the
        model makes of them is the same, a similar or another one, and why when it is far.
        """
        usage = "encode <name> <mesh file> [--fit] [--up <axis>] [--no-refine]"
        parser = WordParser(prog="encode", usage=usage, add_help=False)
        parser.add_argument("name", metavar="<name>")
        parser.add_argument("mesh", metavar="<mesh file>")
        parser.add_argument("--fit", action="store_true")
        parser.add_argument("--up", choices=UPS)
        parser.add_argument("--refine", action=argparse.BooleanOptionalAction, default=True)
        given = parser.parse_intermixed_args(_words(line))
        name = self.new_name(given.name)
        mesh = self.reader.path(given.mesh)
        encoded = self.engine.encode_mesh(mesh, given.fit, given.refine, given.up)
        self.variables[name] = encoded.latent
        self.encoded[name] = encoded
        for part in f"{name}: {encoded.report}".split("; "):
            self.say(textwrap.fill(part, 96, subsequent_indent="    "))

    def _read_given(self, word):
        """The GivenShape that a word of "help loops" names, or None."""
        if word.startswith("$") and word.endswith(".loops"):
            name = word[1 : -len(".loops")]
            if name not in self.encoded:
                raise UserError(f"{word}: no mesh {name}; encode {name} <mesh file> reads one")
            return self.engine.given_mesh(self.encoded[name])
        if word.startswith("gt:"):
            return self.engine.given_item(_whole_number(word[3:], "gt", 0))
        if word.startswith("|") and word.endswith(".npz"):
            try:
                return self.engine.given_slices(*load_slices(self.reader.path(word)))
            except UserError as error:
                raise UserError(f"{word}: {error}") from None
        if word.startswith("|") and word.endswith(".json"):
            return self.engine.given_file(load_edits(self.reader.path(word)))
        return None

    def _value(self, word, check):
        return self.queue.draw(self.reader.operand(word, check))

    def _read_loops(self, word):
        """The loops (k, 2) that a word of the edit window names, one after the other."""
        if word.endswith(".npz"):
            _, loops_by_plane = load_slices(self.reader.path(word))
            return [loop for loops in loops_by_plane for loop in loops]
        return self.engine.loops_of(self._value(word, self.reader.check_sequence))

    # ---------------------------------------------------------------------- variables and the seed

    def do_assign(self, line):
        """assign <name> <z>      keep a latent (or a copy of a sequence) under a name

        assign a ?                 a random latent
        assign b |b.txt            from a file in the working directory
        assign c ||inference/inference-0-latent.txt    from a file under --save_dir
        assign d $last_z           a copy: last_z itself changes with the next run
        assign s $last_pred_seq    a sequence, for "submit seq-viz $s"
        """
        words = _words(line)
        if len(words) != 2:
            raise UserError("assign takes a name and a latent: assign a ?")
        name, word = self.new_name(words[0]), words[1]
        value = self.queue.draw(self.reader.operand(word, self.reader.check_either))
        self.encoded.pop(name, None)  # the name no longer stands for a mesh
        self.variables[name] = value
        self.say(f"{name}: {_shape(value)}")

    def new_name(self, word):
        """The name of a variable that the user may set; UserError for any other word."""
        name = word.removeprefix("$")
        if not (name.isascii() and name.isidentifier()):
            raise UserError(f"{name!r} is no name; use letters, digits and _")
        if name in RUN_VARIABLES:
            raise UserError(f"{name} is set by runs; choose another name")
        return name

    def do_variables(self, line):
        """variables      list the variables, with their shapes and first numbers

        Runs set these:
        """
        if _words(line):
            raise UserError('variables takes no words; "print <name>" shows one')
        names = self.variables.names()
        if not names:
            self.say("no variables yet; assign and run make them")
        width = max(map(len, names), default=0)
        for name in names:
            array = self.variables[name]
            numbers = " ".join(f"{x:.4g}" for x in array.ravel()[:4])
            dots = " ..." if array.size > 4 else ""
            self.say(f"{name:<{width}}  {_shape(array):<9}  {numbers}{dots}")

    def do_print(self, line):
        """print <name>             show a variable
        print <name> <file>      write it as text (numpy.savetxt), relative to the working directory
        print <name> ||<file>    the same, relative to --save_dir

        An existing file is replaced. What is written can be read back: print last_z ||good.txt,
        and another day: submit decode ||good.txt
        """
        words = _words(line)
        if len(words) not in (1, 2):
            raise UserError("print takes a name and, if you like, a file: print last_z z.txt")
        array = self.variables[words[0].removeprefix("$")]
        if len(words) == 1:
            self.say(np.array2string(array, precision=6, max_line_width=100))
            return
        path = self.reader.path(words[1])
        with write_aside(path) as temporary:
            np.savetxt(temporary, array)
        self.say(f"wrote {path}")

    def do_seed(self, line):
        """seed <n>      make what follows repeatable

        After the same seed, the same commands give the same random latents and shapes, whether
        actions are run one by one or together.
        """
        words = _words(line)
        if len(words) != 1:
            raise UserError("seed takes one whole number: seed 7")
        self.queue.seed(_whole_number(words[0], "seed", 0))

    def do_quit(self, line):
        """quit      leave, as does Ctrl-D or the end of a script; what is queued is dropped"""
        if _words(line):
            raise UserError("quit takes no words")
        return True

    # ------------------------------------------------------------------------ help and completion

    def do_help(self, line):
        """help [command]      list the commands, or describe one; "help submit sample" describes
        the flags of an action, "help latents" how a latent is written
        """
        words = _words(line)
        if not words:
            self.say(_OVERVIEW)
        elif words == ["submit"]:
            self.say(submit_help())
        elif words[0] == "submit" and len(words) == 2 and words[1] in KINDS:
            self.say(make_submit_parser(words[1]).format_help().rstrip())
        elif words in (["latents"], ["latent"]):
            self.say(LATENT_HELP.format(prior=self.settings.prior.description))
        elif words == ["loops"]:
            self.say(LOOPS_HELP)
        elif len(words) == 1 and words[0] in self.verbs():
            self.say(inspect.getdoc(getattr(self, f"do_{words[0]}")))
            if words == ["variables"]:
                for name, what in RUN_VARIABLES.items():
                    self.say(f"  {name:<22}" + what.replace("\n", "\n" + " " * 24))
        else:
            raise UserError(f'no help on {" ".join(words)!r}; "help" lists the commands')

    def complete_submit(self, text, line, begin, end):
        words = line[:begin].split()
        if len(words) == 1:
            return starting(text, KINDS)
        if text.startswith("-"):
            return starting(text, FLAGS_OF.get(words[1], ()))
        return self.completedefault(text, line, begin, end)

    def complete_run(self, text, line, begin, end):
        return starting(text, ["all"])

    def complete_queue(self, text, line, begin, end):
        return starting(text, ["pop", "clear"])

    def complete_help(self, text, line, begin, end):
        words = line[:begin].split()
        return starting(
            text, KINDS if words[1:] == ["submit"] else [*self.verbs(), "latents", "loops"]
        )

    def complete_encode(self, text, line, begin, end):
        if len(line[:begin].split()) < 2:
            return []
        return matching_files(line, begin, end, self.reader.folder)

    def complete_print(self, text, line, begin, end):
        if len(line[:begin].split()) == 1:
            return starting(text, self.variables.known_names())
        return matching_files(line, begin, end, self.reader.folder)

    def completedefault(self, text, line, begin, end):
        if text.startswith("$"):
            return starting(text, [f"${name}" for name in self.variables.known_names()])
        if last_word(line[:end]).startswith("|"):
            return matching_files(line, begin, end, self.reader.folder)
        return []


_OVERVIEW = f"""\
submit <what> ...    queue something to make: {", ".join(KINDS)}
run [n | all]        perform the first action of the queue, the first n, or all
queue [pop | clear]  list the queue, remove its first action, or all
assign <name> <z>    keep a latent under a name
variables            list the variables
print <name> [file]  show a variable, or write it to a file
edit <z>             change loops of a shape with the mouse
encode <name> <mesh> the latent of a mesh of your own
seed <n>             make what follows repeatable
help [command]       this list, or more about a command
quit                 leave (or Ctrl-D)

To start:   submit sample 3 --save
            run all
More:       help submit     what can be made
            help latents    how a latent is written
            help loops      how a shape is given by its loops"""


def _words(line):
    try:
        return shlex.split(line)
    except ValueError as error:
        raise UserError(f"{str(error).lower()}; close the quote or write \\ before it") from None


def _whole_number(word, command, low):
    try:
        return number(int, low)(word)
    except Exception as error:
        raise UserError(f"{command}: {error}") from None


def _shape(array):
    return " x ".join(map(str, array.shape))
