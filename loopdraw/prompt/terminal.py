"""A command interpreter that behaves: in a terminal, and at the end of a pipe.

`TerminalCmd` is the standard library's `cmd.Cmd` with errors of one line that never end the
session, Ctrl-C that stops the running command only, an exit status, colour, history kept between
sessions, and completion of file names. It knows nothing of what the commands do.
"""

import cmd
import contextlib
import difflib
import os
import re
import sys
import traceback
from pathlib import Path

from loopdraw.files import UserError

HISTORY_LENGTH = 2000  # lines


class TerminalCmd(cmd.Cmd):
    """Base of an interpreter; commands are methods `do_<name>`, mistakes are `UserError`s.

    Parameters
    ----------
    name : shown in the prompt, and the name of the history file
    stdin, stdout : text streams; those of the process by default
    """

    def __init__(self, name, stdin=None, stdout=None):
        super().__init__(stdin=stdin, stdout=stdout)
        self.name = name
        self.typed = self.stdin is sys.stdin and self.stdin.isatty()
        self.use_rawinput = self.typed
        self.failed = False  # whether any command has failed
        self.prompt = f"{name}> "
        if self.typed and _takes_colour(self.stdout):
            # readline must be told which characters take no room.
            self.prompt = f"\001\033[1;36m\002{name}>\001\033[0m\002 "
        if not self.typed and hasattr(self.stdin, "reconfigure"):
            self.stdin.reconfigure(errors="replace")

    def session(self, intro=None):
        """Read and perform commands to the end of the input.

        Returns
        -------
        int : exit status; 1 when the input was not typed and a command failed
        """
        if intro:
            self.say(intro)
        with _readline(self.name) if self.typed else contextlib.nullcontext():
            while True:
                try:
                    self.cmdloop()
                    break
                except KeyboardInterrupt:
                    # Ctrl-C at the prompt drops the line being typed. A script has no prompt to
                    # go back to.
                    if not self.typed:
                        raise
                    self.say("")
        return int(self.failed and not self.typed)

    def precmd(self, line):
        if not self.typed:
            # Written down, the session then reads as if it had been typed.
            self.say("" if line == "EOF" else line)
        return line

    def onecmd(self, line):
        try:
            return super().onecmd(line)
        except BrokenPipeError:
            raise
        except KeyboardInterrupt:
            self.fail("stopped")
        except Exception as error:
            self.fail_with("", error)
        return False

    def emptyline(self):
        """An empty line does nothing (`cmd.Cmd` would repeat the last command)."""

    def default(self, line):
        word = line.split()[0]
        nearest = difflib.get_close_matches(word, self.verbs(), n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else '"help" lists the commands'
        raise UserError(f"no command {word!r}; {hint}")

    def do_EOF(self, line):
        if self.typed:
            self.say("")
        return True

    def verbs(self):
        names = [name[3:] for name in self.get_names() if name.startswith("do_")]
        return [name for name in names if name != "EOF"]

    def say(self, text):
        print(text, file=self.stdout, flush=True)

    def fail(self, text):
        """Print an error and remember that there was one."""
        self.failed = True
        self._complain("error", "31", text)

    def fail_with(self, what, error):
        """Print what went wrong with something, and the traceback of what is no user's mistake."""
        self.fail(f"{what}: {one_line(error)}" if what else one_line(error))
        if not isinstance(error, UserError):
            traceback.print_exception(error, file=sys.stderr)
            sys.stderr.flush()

    def warn(self, text):
        self._complain("warning", "33", text)

    def _complain(self, word, colour, text):
        self.stdout.flush()
        if _takes_colour(sys.stderr):
            word = f"\033[{colour}m{word}\033[0m"
        print(f"{word}: {text}", file=sys.stderr, flush=True)

    def completenames(self, text, *ignored):
        return starting(text, self.verbs())


def one_line(error):
    """An error as one line; one that is no user's mistake also says where it happened."""
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{place}"


def starting(text, words):
    """Completions of `text` among `words`."""
    return [f"{word} " for word in words if word.startswith(text)]


def last_word(line):
    """What stands after the last blank of a line that is not escaped."""
    return re.search(r"(?:\\.|\S)*$", line).group()


def matching_files(line, begin, end, folder_of):
    """Completions of the file name, after any bars, that a line ends with.

    Parameters
    ----------
    line, begin, end : as readline gives them; it replaces `line[begin:end]`
    folder_of : function from the bars before the name ("", "|" or "||") to a folder
    """
    word = last_word(line[:end])
    name = re.sub(r"\\(.)", r"\1", word)
    bars = name[: len(name) - len(name.lstrip("|"))]
    head, tail = os.path.split(name[len(bars) :])
    try:
        entries = sorted(os.scandir(Path(folder_of(bars)) / head), key=lambda entry: entry.name)
    except (OSError, ValueError):
        return []
    found = []
    for entry in entries:
        hidden = entry.name.startswith(".") and not tail.startswith(".")
        if entry.name.startswith(tail) and not hidden:
            path = re.sub(r"([\s\\'\"])", r"\\\1", bars + os.path.join(head, entry.name))
            # readline replaces only what stands after the last blank, escaped or not.
            found.append(path[len(word) - (end - begin) :] + ("/" if entry.is_dir() else " "))
    return found


def _takes_colour(stream):
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM", "dumb") == "dumb"
    return stream.isatty() and not plain


@contextlib.contextmanager
def _readline(name):
    """Line editing with a history of its own, read from and written to the user's state folder."""
    try:
        import readline
    except ImportError:  # Windows
        yield
        return
    # `$`, `|` and `?` belong to words here.
    readline.set_completer_delims(" \t\n")
    readline.set_history_length(HISTORY_LENGTH)
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    path = Path(state) / "loopdraw" / f"{name}_history"
    with contextlib.suppress(OSError):
        readline.read_history_file(path)
    try:
        yield
    finally:
        # A home that cannot be written to is no reason to end with an error.
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(path)
