"""The REPL's commands for editing by hand and for meshes of one's own."""

from loopdraw.editing.edit_files import load_edits
from loopdraw.loops.slices_files import load_slices
from loopdraw.prompt.actions import WordParser
from loopdraw.prompt.terminal import matching_files


class EditCommands:
    """What `InferenceREPL` adds to itself for `edit` and `encode`."""

    def do_edit(self, line):
        """edit <z> [--edit <file>]      change loops of a shape with the mouse, in a window

        The loops above follow as you drag; the panel saves the shape and more. When you close the
        window, the edit list is kept in a file, and last_z and last_pred_seq are the shape's.

        edit ?                                     a random shape
        edit ||inference/inference-0-edit.json     a saved edit list, with its latent
        edit $a --edit ||inference/inference-0-edit.json    the same edits of another shape

        In a script: submit decode <z> --edit <file> --save
        """
        parser = WordParser(prog="edit", usage="edit <z> [--edit <file>]", add_help=False)
        parser.add_argument("z", metavar="<z>")
        parser.add_argument("--edit")
        given = parser.parse_intermixed_args(self.words(line))
        file = given.edit or (given.z if given.z.endswith(".json") else None)
        edit_file = None if file is None else load_edits(self.reader.path(file))
        latent = self._value(given.z, self.reader.check_latent)
        latent, sequence, message = self.engine.edit(
            f"edit {given.z}",
            latent,
            edit_file,
            read_latent=lambda word: self._value(word, self.reader.check_latent),
            read_loops=self._read_loops,
        )
        self.variables["last_z"], self.variables["last_pred_seq"] = latent, sequence
        self.say(f"edit {given.z}: {message}")

    def do_encode(self, line):
        """encode <name> <mesh file> [--fit]      the latent of a mesh of your own

        The file may be of any format that trimesh reads. --fit centres it and makes its longest
        side 1; without it, it must lie where the shapes of the dataset do, with the same side up.

        encode chair chair.glb --fit
        submit interp 8 $chair ? --save

        What is said then is how many of its loops the model can take, and how far from the mesh
        the shape is that the model makes of them.
        """
        usage = "encode <name> <mesh file> [--fit]"
        parser = WordParser(prog="encode", usage=usage, add_help=False)
        parser.add_argument("name", metavar="<name>")
        parser.add_argument("mesh", metavar="<mesh file>")
        parser.add_argument("--fit", action="store_true")
        given = parser.parse_intermixed_args(self.words(line))
        name = self.new_name(given.name)
        encoded = self.engine.encode_mesh(self.reader.path(given.mesh), given.fit)
        self.variables[name] = encoded.latent
        self.say(f"{name}: {encoded.report}")

    def complete_encode(self, text, line, begin, end):
        if len(line[:begin].split()) < 2:
            return []
        return matching_files(line, begin, end, self.reader.folder)

    def _value(self, word, check):
        return self.queue.draw(self.reader.operand(word, check))

    def _read_loops(self, word):
        """The loops (k, 2) that a word of the edit window names, one after the other."""
        if word.endswith(".npz"):
            _, loops_by_plane = load_slices(self.reader.path(word))
            return [loop for loops in loops_by_plane for loop in loops]
        return self.engine.loops_of(self._value(word, self.reader.check_sequence))
