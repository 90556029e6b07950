"""What the engine of the inference REPL does for `edit` and `encode`."""

from pathlib import Path

from loopdraw.editing.edit_files import check_edits, warn_of_other_loops
from loopdraw.editing.session import EditSession
from loopdraw.evaluation.own_mesh import encode_mesh
from loopdraw.files import UserError
from loopdraw.loops.representations import sequence_to_loops

_NO_WINDOW = (
    "edit: no window can be opened here; an edit list that was saved elsewhere is applied by "
    "submit decode <z> --edit <file>"
)


class EditingEngine:
    """A part of `InferenceEngine`, of which it uses model, info, options, workers, edit_window."""

    def edit(self, title, latent, edit_file, read_latent, read_loops):
        """Let the user edit the shape of a latent in a window.

        Parameters
        ----------
        title : str
        latent : (L,) float
        edit_file : edit_files.EditFile to start with, or None
        read_latent, read_loops : as `session.EditSession`

        Returns
        -------
        latent : (L,) float, as it is when the window is closed
        sequence : (T, F) float32, likewise
        message : str, what there is to say

        Raises
        ------
        UserError
            When no window can be opened, or the model cannot take the edits.
        """
        if self.edit_window is None:
            raise UserError(_NO_WINDOW)
        edits = []
        if edit_file is not None:
            check_edits(edit_file, self.info)
            edits = edit_file.edits
        folder = Path(self.options.save_dir) / "inference"
        session = EditSession(
            self.model,
            latent,
            edits,
            folder,
            read_latent,
            read_loops,
            build_surface=self.workers.build,
            mesh_formats=self.options.save_format,
        )
        warning = None if edit_file is None else warn_of_other_loops(edit_file, session.editor)
        if warning:
            self.report(f"warning: {warning}")
        try:
            opened = self.edit_window(session, title)
        except KeyboardInterrupt:
            raise UserError(f"stopped; {_kept(session)}") from None
        if not opened:
            raise UserError(_NO_WINDOW)
        return session.editor.latent, session.editor.shape.sequence, _kept(session)

    def loops_of(self, sequence):
        """The loops (k, 2) of a sequence (T, F), one after the other."""
        info = self.info
        loops_by_plane = sequence_to_loops(
            sequence, info.n_planes, info.representation, info.use_eos_token
        )
        return [loop for loops in loops_by_plane for loop in loops]

    def encode_mesh(self, path, fit):
        """As `own_mesh.encode_mesh`."""
        return encode_mesh(self.model, path, fit)


def _kept(session):
    """Keep the edits in a file, saved or not: work by hand is not to be lost with the window."""
    edits = session.editor.edits
    return f"{len(edits)} edits, kept in {session.save_edit_list()}" if edits else "no edits"
