"""The files that `--save` writes, and their names: nothing is ever overwritten.

==========================  =====================================================================
file                        content
==========================  =====================================================================
`inference-#.obj`           the mesh; other endings with `--save_format`
`inference-#-latent.txt`    the latent, as written by `numpy.savetxt`; not for items of the dataset
                            and given sequences
`inference-#-slices.npz`    the loops
==========================  =====================================================================

For new shapes # is a number, one more than the highest present. For others it is a label: gt<i>,
reco<i>, seqviz, and if that is taken gt<i>-1, gt<i>-2 and so on.
"""

import itertools
import re

import numpy as np

from loopdraw.files import write_aside
from loopdraw.loops.mesh_files import save_mesh
from loopdraw.loops.slices_files import save_slices
from loopdraw.surface.export import export_shape

# The mesh is written last: if it is there, so are the others.
SUFFIXES = ("-slices.npz", "-latent.txt", ".obj")
MESH_FORMATS = ("obj",)  # by default


def free_stem(folder, label=None):
    """A path `<folder>/inference-#`, without a suffix, that no file uses yet.

    Parameters
    ----------
    folder : Path, which need not exist
    label : str, or None for the next number
    """
    if label is None:
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        numbers = [re.match(r"inference-(\d+)[.-]", name) for name in names]
        highest = max((int(number[1]) for number in numbers if number), default=-1)
        return folder / f"inference-{highest + 1}"
    for again in itertools.count():
        name = f"inference-{label}" + (f"-{again}" if again else "")
        if not any((folder / f"{name}{suffix}").exists() for suffix in SUFFIXES):
            return folder / name


def save_shape(stem, planes, loops_by_plane, mesh, z=None, formats=(), mesh_formats=MESH_FORMATS):
    """Write the files of a shape.

    Parameters
    ----------
    stem : Path, from `free_stem`
    planes : (P, 4, 3) float
    loops_by_plane : list of P lists of (k, 2) float loops
    mesh : vertices (n, 3) float, faces (m, 3) int
    z : (L,) float or None
    formats : names of export.FORMATS, to write as well
    mesh_formats : endings of mesh_files.MESH_FORMATS, without their points

    Returns
    -------
    Path of the mesh, the first of them

    Raises
    ------
    UserError
        When a file cannot be written.
    """
    slices, latent = (stem.with_name(stem.name + suffix) for suffix in SUFFIXES[:2])
    meshes = [stem.with_name(f"{stem.name}.{kind}") for kind in mesh_formats]
    save_slices(slices, planes, loops_by_plane)
    if z is not None:
        with write_aside(latent) as temporary:
            np.savetxt(temporary, z)
    export_shape(stem, planes, loops_by_plane, mesh, formats)
    for path in meshes:
        save_mesh(path, *mesh)
    return meshes[0]
