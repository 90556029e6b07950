"""How well a model edits shapes that are given by their loops.

    python benchmarks/editing.py datasets/demo-vases/val
    python benchmarks/editing.py datasets/demo-vases/val --only seams -n 24

takes vases of a folder, as they are sliced for training, and prints for each question how many of
them answer it well:

    handles   A circle is inserted beside the body on five planes, as a handle that leaves it. Is
              the result one closed solid? Does it stay in one piece when the handle is cut through,
              so that there is a hole beside it? Has it more holes (a higher genus) than the vase
              without the edit, so that no other handle was lost?
    filled    The inside is removed on five planes. Is there none on any plane above them?
    seams     The vase is completed from a plane of the middle on, in four ways. Do loops change
              more at the seam than those of any training shape do between these planes?
    unedited  Without an edit, how far does the saved mesh lie from the mesh in the folder? The
              floor is the distance between two samplings of that mesh.

`handles`, `filled` and `seams` take the latents that the encoder gives, without improving them.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

FIRST, LAST = 12, 16  # planes of the edits
GAPS, WIDTH = (0.008, 0.02, 0.03, 0.03, 0.02), 0.05  # a handle: away from the body, and its width
PLANE, WAYS = 14, 4  # of the completions
N_TRAINING = 300  # training shapes to compare seams with
QUESTIONS = ("handles", "filled", "seams", "unedited")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a split of the model's dataset, with its meshes")
    parser.add_argument("--model", default="checkpoints/demo-vases", help="a checkpoint")
    parser.add_argument("-n", type=int, default=100, help="how many vases")
    parser.add_argument("--only", choices=QUESTIONS, help="one question")
    arguments = parser.parse_args()

    import loopdraw

    model = loopdraw.load(arguments.model)
    for question in [arguments.only] if arguments.only else QUESTIONS:
        if question == "unedited":
            unedited(model, sorted(arguments.folder.rglob("*.obj"))[: arguments.n])
        else:
            globals()[question](model, arguments)


def given_vases(model, arguments):
    """Up to n vases as `GivenShape`s."""
    from tqdm import tqdm

    from loopdraw.data.build import build_or_load_cache
    from loopdraw.data.dataset import batch_of
    from loopdraw.editing.given import given_shape

    info = model.info
    cached = build_or_load_cache(arguments.folder, "fixed-res-polyline")
    n = min(arguments.n, len(cached.sequences))
    for i in tqdm(range(n), mininterval=5):
        length = cached.lengths[i]
        loops = info.loops(cached.sequences[i][:length], cached.plane_indices[i][:length])
        bare = given_shape(model.network, loops, [0.0] * model.latent_size)
        latent = model.network.encode(batch_of(info, bare.sequence, "cpu"))[0].numpy()
        yield given_shape(model.network, loops, latent)


def edited(model, given, edits):
    """The loops of a given shape under edits, by plane; None where they are refused."""
    from loopdraw.editing.editor import LoopEditor

    try:
        editor = LoopEditor(model.network, given.latent, edits, given, None)
        editor.carry_on()
        return editor.shape.loops_by_plane
    except ValueError as error:
        print(f"  failed: {error}", file=sys.stderr)
        return None


def mesh_of(model, loops):
    """The mesh of loops, or None."""
    import loopdraw

    try:
        return loops and loopdraw.reconstruct(loopdraw.Shape(model.planes, loops))
    except loopdraw.UserError as error:
        print(f"  failed: {error}", file=sys.stderr)
        return None


def genus(mesh):
    return mesh.body_count - mesh.euler_number // 2


def is_one_piece_when_cut(mesh, loop, plane):
    """Whether a mesh does not fall apart where it is cut along a small loop (k, 2) of a plane."""
    import numpy as np
    import trimesh

    normal, origin, *axes = plane
    places = mesh.vertices - origin
    away = np.linalg.norm(places @ np.transpose(axes) - loop.mean(axis=0), axis=1)
    on_loop = (np.abs(places @ normal) < 1e-6) & (away < 0.75 * np.ptp(loop, axis=0).max())
    is_cut = on_loop[mesh.face_adjacency_edges].all(axis=1)
    ends = np.bincount(mesh.face_adjacency_edges[is_cut].ravel())
    if not is_cut.any() or not np.isin(ends, (0, 2)).all():
        return False  # the cut is no ring
    parts = trimesh.graph.connected_components(
        mesh.face_adjacency[~is_cut], nodes=np.arange(len(mesh.faces))
    )
    return len(parts) == mesh.body_count


def handles(model, arguments):
    import numpy as np

    import loopdraw

    solid = beside = right = total = 0
    for given in given_vases(model, arguments):
        total += 1
        on_planes = given.loops_by_plane(len(model.planes))
        body = np.concatenate([points for p in range(FIRST, LAST + 1) for points in on_planes[p]])
        # The side of eight where the vase ends first: there, no handle is in the way.
        angles = np.arange(8) * np.pi / 4
        sides = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        side = sides[(body @ sides.T).max(axis=0).argmin()]
        ellipses = []
        for plane, gap in zip(range(FIRST, LAST + 1), GAPS, strict=True):
            points = np.concatenate(on_planes[plane])
            u, v = ((points @ side).max() + gap + WIDTH / 2) * side
            ellipses.append(loopdraw.ellipse(u, v, WIDTH, WIDTH))
        before = mesh_of(model, on_planes)
        mesh = mesh_of(model, edited(model, given, [loopdraw.Insert((FIRST, LAST), ellipses)]))
        if mesh is None or before is None:
            continue
        is_solid = mesh.is_watertight and mesh.body_count == 1
        solid += is_solid
        middle = (LAST - FIRST) // 2
        cut = ellipses[middle], model.planes[FIRST + middle]
        beside += is_solid and is_one_piece_when_cut(mesh, *cut)
        right += is_solid and genus(mesh) > genus(before)
    print(
        f"handles: {solid} of {total} are one closed solid, {beside} with a hole beside the "
        f"handle, {right} with a hole more than before"
    )


def filled(model, arguments):
    import loopdraw
    from loopdraw.loops.nesting import nesting_depths

    stays = total = 0
    for given in given_vases(model, arguments):
        on_planes = given.loops_by_plane(len(model.planes))
        depths = [list(nesting_depths(loops)) for loops in on_planes]
        inside = [p for p in range(FIRST, LAST + 1) if 1 in depths[p]]
        if inside != list(range(FIRST, LAST + 1)):
            continue
        total += 1
        edits = [loopdraw.Remove(p, loop=depths[p].index(1)) for p in inside]
        loops = edited(model, given, edits)
        stays += loops is not None and not any(
            1 in list(nesting_depths(plane)) for plane in loops[FIRST:]
        )
    print(f"filled: {stays} of {total} hollow vases stay filled")


def seams(model, arguments):
    import numpy as np

    from loopdraw.data.build import build_or_load_cache
    from loopdraw.editing.given import complete, seam

    cached = build_or_load_cache(arguments.folder.parent / "train", "fixed-res-polyline")
    rows = zip(cached.sequences[:N_TRAINING], cached.plane_indices, cached.lengths, strict=False)
    usual = [seam(model.info.loops(row[:n], planes[:n]), PLANE - 1) for row, planes, n in rows]
    limit = max(usual)
    found = []
    for i, given in enumerate(given_vases(model, arguments)):
        rng = np.random.default_rng(i)
        for _, shape in complete(model.network, given, PLANE, WAYS, rng):
            found.append(seam(shape.loops_by_plane, PLANE - 1))
    found = np.array(found)
    print(
        f"seams: {(found > limit).sum()} of {len(found)} completions change more at the seam than "
        f"any of {len(usual)} training shapes there ({limit:.3f}); the largest {found.max():.3f}, "
        f"the median {np.median(found):.3f}, of training shapes {np.median(usual):.3f}"
    )


def unedited(model, paths):
    import numpy as np
    from reconstruction_quality import compare
    from tqdm import tqdm

    import loopdraw
    from loopdraw.editing.given import given_shape
    from loopdraw.loops.slicing import slice_mesh

    ratios = []
    for path in tqdm(paths, mininterval=5):
        mesh = loopdraw.load_mesh(path)
        if not mesh.is_watertight:
            continue
        loops = slice_mesh(mesh.vertices, mesh.faces, model.planes).loops_by_plane
        given = given_shape(model.network, loops, [0.0] * model.latent_size)
        after = mesh_of(model, edited(model, given, []))
        ratios.append(compare(mesh, after)[0] / compare(mesh, mesh)[0])
    print(
        f"unedited: {np.mean(ratios):.3f} times the floor on average of {len(ratios)} closed "
        f"meshes, {np.max(ratios):.3f} at most, {np.mean(np.array(ratios) <= 1.15):.0%} within 1.15"
    )


if __name__ == "__main__":
    main()
