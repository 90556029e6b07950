"""LoopDraw: shapes as sequences of closed planar loops, learned, generated and edited.

    import loopdraw

    model = loopdraw.load("checkpoints/demo-vases")
    for shape in model.sample(4, seed=0):
        shape.save(f"vase-{shape.number}.glb")

Names are imported when they are first used, so `import loopdraw` costs no torch.
"""

import importlib

_HOMES = {
    "load": "loopdraw.shapes",
    "Model": "loopdraw.shapes",
    "Shape": "loopdraw.shapes",
    "slice_mesh": "loopdraw.door.meshes",
    "reconstruct": "loopdraw.shapes",
    "planes": "loopdraw.door.meshes",
    "prepare": "loopdraw.data.prepare.run",
    "load_contours": "loopdraw.door.meshes",
    "load_mesh": "loopdraw.door.meshes",
    "Move": "loopdraw.door.edits",
    "Scale": "loopdraw.door.edits",
    "Rotate": "loopdraw.door.edits",
    "Square": "loopdraw.door.edits",
    "Replace": "loopdraw.door.edits",
    "Insert": "loopdraw.door.edits",
    "Remove": "loopdraw.door.edits",
    "ellipse": "loopdraw.door.edits",
    "UserError": "loopdraw.files",
    "view": "loopdraw.view",  # the room itself, which can be called
}

__all__ = list(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'loopdraw' has no attribute {name!r}")
    if name == "view":
        return importlib.import_module("loopdraw.view")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted([*globals(), *_HOMES])
