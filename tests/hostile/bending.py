"""Files made wrong in the ways that files go wrong: cut, bent, mixed up, or written by a stranger.

Every function takes a numpy random generator, so an input is known by its seed and number.
"""

import copy
import io
import json
import zipfile

import numpy as np

WORDS = (
    *("nan", "inf", "-inf", "1e308", "-1", "0", "1.5", "99999999999999999999", "0x10", "1_000"),
    *("None", "true", "[]", "{}", '"', "'", "--", "--save", "#", "\\", "ü漢", "\x00", "\x1b[31m"),
    *("", " ", "\t", "\r", "a" * 5000, "9" * 5000, "1 2 3", "-", "%s", "$", "|", "||", "?", "*"),
)
VALUES = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1.5,
        1e308,
        10**30,
        float("nan"),
        float("inf"),
        "",
        "x",
        "9" * 5000,
    ),
    *([], {}, [None], [[]], [1, [2, [3]]], {"a": {}}, [0] * 10_000),
)


def bend_bytes(data, rng, times=None):
    """Bytes changed at some places, shortened, lengthened, or replaced altogether."""
    data = bytearray(data)
    for _ in range(times or rng.integers(1, 4)):
        start, end = sorted(rng.integers(0, len(data) + 1, 2).tolist())
        end = min(end, start + int(2 ** rng.uniform(0, 12)))
        noise = rng.bytes(int(2 ** rng.uniform(0, 8)))
        match rng.integers(9):
            case 0 if data:
                data[start % len(data)] ^= 1 << int(rng.integers(8))
            case 1 if data:
                data[start % len(data)] = int(rng.choice([0, 255, 10, 32, 34, 45, 57]))
            case 2:
                del data[start:end]
            case 3:
                data[start:start] = noise
            case 4:
                data[start:start] = data[start:end]
            case 5:
                del data[start:]
            case 6:
                data[start:end] = bytes(end - start)
            case 7:
                data += noise
            case 8 if rng.random() < 0.2:
                data = bytearray(rng.choice([b"", noise, bytes(100_000), b"\n" * 1000, b"PK\3\4"]))
    return bytes(data)


def bend_text(data, rng):
    """Lines and words of a text (bytes) dropped, repeated, swapped, or replaced."""
    lines = [line.split(" ") for line in data.decode("utf-8", "replace").split("\n")]
    for _ in range(rng.integers(1, 5)):
        line = int(rng.integers(len(lines)))
        word = int(rng.integers(len(lines[line])))
        match rng.integers(8):
            case 0 | 1 | 2:
                lines[line][word] = str(rng.choice(WORDS))
            case 3:
                lines[line].insert(word, str(rng.choice(WORDS)))
            case 4 if len(lines) > 1:
                del lines[line]
            case 5:
                lines.insert(line, lines[int(rng.integers(len(lines)))].copy())
            case 6 if len(lines[line]) > 1:
                del lines[line][word]
            case 7 if rng.random() < 0.1:
                lines = lines * 300
    text = "\n".join(map(" ".join, lines))
    codec = rng.choice(["utf-8", "utf-8", "utf-8", "utf-16", "latin-1"])
    return text.encode(codec, "replace")


def bend_value(value, rng):
    """A JSON value with one part of it changed, in place where it has parts."""
    if isinstance(value, list | dict) and value and rng.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = keys[int(rng.integers(len(keys)))]
        match rng.integers(6):
            case 0:
                del value[key]
            case 1 if isinstance(value, dict):
                value[str(rng.choice(WORDS))] = value.pop(key)
            case _:
                value[key] = bend_value(value[key], rng)
        return value
    return copy.deepcopy(VALUES[rng.integers(len(VALUES))])


def bend_json(data, rng):
    """A JSON file with some of its values changed."""
    value = json.loads(data)
    for _ in range(rng.integers(1, 4)):
        value = bend_value(value, rng)
    text = json.dumps(value)
    if rng.random() < 0.03:
        text = text.replace("0", "[" * 5000 + "]" * 5000, 1)
    return text.encode()


def bend_array(array, rng):
    """An array of another type or shape, or with other values in it."""
    array = np.array(array)
    flat = array.reshape(-1)
    match rng.integers(12):
        case 0:
            kinds = ["f2", "f8", "i1", "u8", "c16", "?", "U3", "S2", "M8[s]", "V4"]
            with np.errstate(all="ignore"):
                try:
                    return array.astype(rng.choice(kinds))
                except (ValueError, TypeError):
                    return np.zeros(array.shape, rng.choice(kinds))
        case 1:
            return array[None]
        case 2:
            return flat
        case 3:
            return flat[:0]
        case 4 if array.ndim:
            return array[: max(1, len(array) // 2)]
        case 5:
            return np.swapaxes(array, 0, -1) if array.ndim else array
        case 6:
            return np.array(VALUES[rng.integers(7)], dtype=object)
        case 7:
            return np.zeros(rng.integers(0, 5, rng.integers(0, 4)))
        case 8 if array.ndim:
            return np.concatenate([array, array])
        case 9:
            return np.zeros_like(array)
    if flat.size and array.dtype.kind in "fiu":
        nasty = (
            [np.nan, np.inf, -np.inf, -1, 2, 1e30, 1e-30, 0]
            if array.dtype.kind == "f"
            else [
                *(-1, 0, 1, 100),
                np.iinfo(array.dtype).max,
            ]
        )
        chosen = rng.integers(flat.size, size=int(rng.integers(1, 6)))
        with np.errstate(all="ignore"):
            flat = flat.copy()
            flat[chosen] = np.array(rng.choice(nasty, len(chosen))).astype(array.dtype)
        return flat.reshape(array.shape)
    return array


def bend_npz(data, rng):
    """An .npz file with other arrays, headers that lie, or bent bytes."""
    with np.load(io.BytesIO(data)) as archive:
        arrays = {name: archive[name] for name in archive.files}
    for _ in range(rng.integers(1, 3)):
        name = str(rng.choice(list(arrays)))
        match rng.integers(10):
            case 0 if len(arrays) > 1:
                del arrays[name]
            case 1:
                arrays[f"{name}_"] = arrays.pop(name)
            case _:
                arrays[name] = bend_array(arrays[name], rng)
    members = {}
    for name, array in arrays.items():
        member = io.BytesIO()
        np.lib.format.write_array(member, np.asarray(array), allow_pickle=True)
        members[name] = member.getvalue()
    if rng.random() < 0.3:
        name = str(rng.choice(list(members)))
        members[name] = bend_header(members[name], rng)
    stream = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if rng.random() < 0.3 else zipfile.ZIP_STORED
    with zipfile.ZipFile(stream, "w", kind) as archive:
        for name, member in members.items():
            archive.writestr(f"{name}.npy", member)
    data = stream.getvalue()
    return bend_bytes(data, rng) if rng.random() < 0.2 else data


def bend_header(member, rng):
    """An .npy file whose header says something else than what follows."""
    end = member.index(b"\n")
    header = member[10:end].decode("latin-1").rstrip()
    lies = ["(10**9,)", "(999999999999,)", "(-1,)", "(0,)", "('a',)", "(" * 90, "(1,)*9", "()"]
    if rng.random() < 0.5:
        start = header.index("(")
        header = f"{header[:start]}{rng.choice(lies)}, }}"
    else:
        header = bend_bytes(header.encode("latin-1"), rng).decode("latin-1")
    body = header.encode("latin-1")[:60_000] + b"\n"
    return member[:8] + len(body).to_bytes(2, "little") + body + member[end + 1 :]


def bend_state(data, rng):
    """A file of `torch.save` with other tensors and names, or bent bytes."""
    import torch

    state = torch.load(io.BytesIO(data), weights_only=True)
    if isinstance(state, dict) and rng.random() < 0.7:
        name = list(state)[int(rng.integers(len(state)))]
        match rng.integers(5):
            case 0:
                del state[name]
            case 1:
                state[f"{name}_"] = state.pop(name)
            case 2 if isinstance(state[name], torch.Tensor):
                bent = bend_array(state[name].numpy(), rng)
                if bent.dtype.kind in "fiub" and bent.dtype != np.uint64:
                    state[name] = torch.from_numpy(np.ascontiguousarray(bent))
            case _:
                if isinstance(state[name], torch.Tensor):
                    state[name] = copy.deepcopy(VALUES[rng.integers(len(VALUES))])
                else:
                    state[name] = bend_value(state[name], rng)
    elif rng.random() < 0.3:
        state = copy.deepcopy(VALUES[rng.integers(len(VALUES))])
    stream = io.BytesIO()
    torch.save(state, stream)
    data = stream.getvalue()
    return bend_bytes(data, rng) if rng.random() < 0.3 else data
