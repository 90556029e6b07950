// The shapes of the page as arrays for WebGL.

const ROW = 13; // numbers in a row of pieces, see piecesOf

// The arrays of all shapes, one after another; each number is the difference from the last one.
async function unpack() {
  const packed = Uint8Array.from(atob(byId("data").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = await new Response(stream).arrayBuffer();
  let at = 0;
  function take(Kind, n) {
    const array = new Kind(bytes.slice(at, at += n * Kind.BYTES_PER_ELEMENT));
    for (let i = 1; i < n; i++) array[i] += array[i - 1];
    return array;
  }
  function points(n) {
    const columns = take(Uint16Array, 3 * n), rows = new Uint16Array(3 * n);
    for (let i = 0; i < n; i++) for (let k = 0; k < 3; k++) rows[3 * i + k] = columns[k * n + i];
    return rows;
  }
  return page.shapes.map((shape) => {
    const vertices = points(shape.vertices), faces = take(Uint32Array, 3 * shape.faces);
    const nodes = points(shape.loops.reduce((sum, loop) => sum + loop.points, 0));
    return { vertices, faces, normals: normalsOf(vertices, faces), ...piecesOf(shape, nodes) };
  });
}

function normalsOf(vertices, faces) {
  const normals = new Float32Array(vertices.length);
  for (let i = 0; i < faces.length; i += 3) {
    const [a, b, c] = [3 * faces[i], 3 * faces[i + 1], 3 * faces[i + 2]];
    const u = [0, 1, 2].map((k) => vertices[b + k] - vertices[a + k]);
    const v = [0, 1, 2].map((k) => vertices[c + k] - vertices[a + k]);
    for (let k = 0; k < 3; k++) {
      const [i1, i2] = [(k + 1) % 3, (k + 2) % 3], area = u[i1] * v[i2] - u[i2] * v[i1];
      normals[a + k] += area; normals[b + k] += area; normals[c + k] += area;
    }
  }
  return normals;
}

// Each piece of a loop as a rectangle of two triangles. A row of `pieces` is one of its corners: the
// two ends of the piece, colour, thickness and number of the loop, and which corner it is.
// `heights` says how high the first loops reach.
function piecesOf(shape, nodes) {
  const n = nodes.length / 3, pieces = new Float32Array(4 * ROW * n), triangles = [];
  const heights = new Float32Array(page.most_loops + 1).fill(-9);
  let first = 0;
  for (const loop of shape.loops) {
    const { color, thickness } = page.roles[loop.role];
    for (let i = 0; i < loop.points; i++) {
      const here = first + i, there = first + (i + 1) % loop.points;
      const [a, b] = [here, there].map((j) => [0, 1, 2].map((k) => nodes[3 * j + k] / 65535));
      const height = a.reduce((sum, x, k) => sum + (x - 0.5) * shape.up[k], 0);
      if (loop.number >= 0 && height > heights[loop.number + 1]) heights[loop.number + 1] = height;
      const corners = [[-1, -1], [1, -1], [-1, 1], [1, 1]];
      corners.forEach((corner, j) =>
        pieces.set([...a, ...b, ...color, thickness, loop.number, ...corner], ROW * (4 * here + j)));
      triangles.push(...[0, 1, 2, 2, 1, 3].map((j) => 4 * here + j));
    }
    first += loop.points;
  }
  for (let i = 1; i < heights.length; i++) heights[i] = Math.max(heights[i], heights[i - 1]);
  return { pieces, triangles: new Uint32Array(triangles), heights };
}
