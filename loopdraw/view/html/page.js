"use strict";
// Draws the shapes of this page. One WebGL canvas draws each of them in turn, and what it drew is
// copied to where the shape is on the page: browsers allow few WebGL canvases, pages have many
// shapes. All shapes are seen from the same direction.

const page = JSON.parse(byId("page").textContent);
const TAN = Math.tan(12 * Math.PI / 180); // of half the field of view
// As `scene.fit_camera`: 32 degrees from the front, 20 above the horizon.
const HOME = { azimuth: 0.56, elevation: 0.35, zoom: 1, shift: [0, 0] };
const ROW = 13; // numbers in a row of pieces, see piecesOf
const TURNS_PER_SECOND = 0.1, LOOPS_PER_SECOND = 14;

const slider = byId("reveal"), stages = [];
let view = { ...HOME, shift: [0, 0] };
let shown = page.most_loops, progress = 0, drawing = false, turning = false, surface = true;
let opened = page.shapes.length > 1 ? null : 0; // the shape that alone is seen
let waiting = false, moving = false, before = 0, n_slow = 0;
let scale = Math.min(Math.max(devicePixelRatio, 2), 3); // fewer pixels where that is too slow
let gl, programs, models;

function byId(id) { return document.getElementById(id); }

// ------------------------------------------------------------------------------------- geometry

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

// ---------------------------------------------------------------------------------------- WebGL

const SEEN = `#version 300 es
precision highp float;
uniform mat3 turn; uniform vec2 lens, shift; uniform float away;
vec4 seen(vec3 point, float nearer) {
  vec3 at = turn * (point - .5) - vec3(0., 0., away - nearer);
  float near = max(away - 1., .01), far = away + 1.;
  float depth = -(at.z * (far + near) + 2. * far * near) / (far - near);
  return vec4(at.xy * lens - shift * at.z, depth, -at.z);
}`;
const SURFACE = [`${SEEN}
in vec3 point, normal; uniform vec3 up; out vec3 n; out float height;
void main() {
  n = turn * normal / max(length(normal), 1e-9);
  height = dot(point - .5, up);
  gl_Position = seen(point, 0.);
}`, `#version 300 es
precision highp float;
in vec3 n; in float height; uniform float cut, opacity; uniform vec3 color; out vec4 pixel;
void main() {
  if (height > cut) discard;
  vec3 m = n / max(length(n), 1e-9) * (gl_FrontFacing ? 1. : -1.);
  vec3 light = normalize(vec3(-.4, .7, .75));
  float bright = .64 + .36 * max(dot(m, light), 0.) + .12 * m.y;
  float gloss = .14 * pow(max(dot(m, normalize(light + vec3(0., 0., 1.))), 0.), 36.);
  pixel = vec4((color * bright + gloss) * opacity, opacity);
}`];
// Each piece of a loop is a ribbon that faces the viewer, with round ends, shaded as a tube.
const LOOPS = [`${SEEN}
in vec2 corner; in vec3 a, b, color; in float thickness, number;
uniform float first, radius; uniform vec2 size; out vec2 place; out vec3 tone; flat out vec2 shape;
void main() {
  float thick = thickness * radius;
  vec4 at = seen(a, thick), to = seen(b, thick), mine = corner.y < 0. ? at : to;
  vec2 from = at.xy / at.w * size, along = to.xy / to.w * size - from;
  float reach = length(along), r = max(thick * lens.y * size.y / mine.w, .8);
  along = reach > 1e-4 ? along / reach : vec2(1., 0.);
  vec2 offset = r * (along * corner.y + vec2(-along.y, along.x) * corner.x);
  place = vec2(r * corner.x, corner.y < 0. ? -r : reach + r);
  shape = vec2(reach, r);
  tone = color;
  gl_Position = vec4(mine.xy / mine.w + offset / size, mine.z / mine.w, 1.);
  if (number >= first) gl_Position = vec4(2., 2., 2., 1.);
}`, `#version 300 es
precision highp float;
in vec2 place; in vec3 tone; flat in vec2 shape; out vec4 pixel;
void main() {
  float across = place.x / shape.y, beyond = place.y - clamp(place.y, 0., shape.x);
  if (length(vec2(place.x, beyond)) > shape.y) discard;
  pixel = vec4(tone * (.72 + .32 * sqrt(max(1. - across * across, 0.))), 1.);
}`];

function program(sources) {
  const it = gl.createProgram();
  sources.forEach((source, i) => {
    const shader = gl.createShader(i ? gl.FRAGMENT_SHADER : gl.VERTEX_SHADER);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(it, shader);
  });
  gl.linkProgram(it);
  if (!gl.getProgramParameter(it, gl.LINK_STATUS)) throw Error(gl.getProgramInfoLog(it) || "WebGL");
  return { it, at: (name) => gl.getUniformLocation(it, name) };
}

// Buffers for a program: triangles, and arrays of which each has rows of [name, numbers] columns.
function upload(program, triangles, ...arrays) {
  const vertices = gl.createVertexArray();
  gl.bindVertexArray(vertices);
  for (const [array, kind, columns] of arrays) {
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, array, gl.STATIC_DRAW);
    const row = columns.reduce((sum, [, n]) => sum + n, 0) * array.BYTES_PER_ELEMENT;
    let offset = 0;
    for (const [name, n] of columns) {
      const where = gl.getAttribLocation(program.it, name);
      gl.enableVertexAttribArray(where);
      gl.vertexAttribPointer(where, n, kind, kind === gl.UNSIGNED_SHORT, row, offset);
      offset += n * array.BYTES_PER_ELEMENT;
    }
  }
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, triangles, gl.STATIC_DRAW);
  return vertices;
}

function prepare() {
  programs = { surface: program(SURFACE), loops: program(LOOPS) };
  for (const model of models) {
    model.surface = upload(programs.surface, model.faces,
      [model.vertices, gl.UNSIGNED_SHORT, [["point", 3]]],
      [model.normals, gl.FLOAT, [["normal", 3]]]);
    model.loops = upload(programs.loops, model.triangles, [model.pieces, gl.FLOAT,
      [["a", 3], ["b", 3], ["color", 3], ["thickness", 1], ["number", 1], ["corner", 2]]]);
  }
  gl.enable(gl.DEPTH_TEST);
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
}

function render(i, width, height) {
  const model = models[i], shape = page.shapes[i];
  const [c, s] = [Math.cos(view.azimuth), Math.sin(view.azimuth)];
  const [e, f] = [Math.cos(view.elevation), Math.sin(view.elevation)];
  const turn = [c, -s * f, s * e, 0, e, f, -s, -c * f, c * e]; // column by column
  const [wide, high] = page.frame; // of the body that the shapes sweep when they turn
  const tall = high * Math.cos(HOME.elevation) + wide * Math.sin(HOME.elevation);
  const away = wide + Math.max(tall, wide * height / width, 0.1) / (0.94 * TAN);
  const lens = view.zoom / TAN;
  gl.viewport(0, 0, width, height);
  gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
  for (const { it, at } of Object.values(programs)) {
    gl.useProgram(it);
    gl.uniformMatrix3fv(at("turn"), false, turn);
    gl.uniform2f(at("lens"), lens * height / width, lens);
    gl.uniform2fv(at("shift"), view.shift);
    gl.uniform1f(at("away"), away);
  }
  gl.uniform1f(programs.loops.at("first"), shown);
  gl.uniform1f(programs.loops.at("radius"), page.radius);
  gl.uniform2f(programs.loops.at("size"), width / 2, height / 2);
  gl.bindVertexArray(model.loops);
  gl.drawElements(gl.TRIANGLES, model.triangles.length, gl.UNSIGNED_INT, 0);
  if (!surface || !shape.faces || (page.most_loops && !shown)) return;
  const { it, at } = programs.surface;
  gl.useProgram(it);
  gl.uniform3fv(at("up"), shape.up);
  gl.uniform3fv(at("color"), page.mesh_color);
  gl.uniform1f(at("opacity"), page.mesh_opacity);
  gl.uniform1f(at("cut"), shown < shape.n_loops ? model.heights[shown] + 1e-4 : 9);
  gl.bindVertexArray(model.surface);
  // Only what is nearest is blended, over the loops behind it; those in front stay as they are.
  for (const blended of [false, true]) {
    gl.colorMask(blended, blended, blended, blended);
    gl.depthMask(!blended);
    gl.depthFunc(blended ? gl.EQUAL : gl.LESS);
    gl.drawElements(gl.TRIANGLES, model.faces.length, gl.UNSIGNED_INT, 0);
  }
  gl.depthMask(true);
  gl.depthFunc(gl.LESS);
}

// ------------------------------------------------------------------------------------ the page

function request() {
  if (!waiting) requestAnimationFrame(frame);
  waiting = true;
}

function frame(now) {
  waiting = false;
  const seconds = Math.min((now - before) / 1000, 0.1);
  before = now;
  if (moving) n_slow = seconds < 0.1 ? 0 : n_slow + 1;
  if (n_slow > 3) [scale, n_slow] = [1, 0];
  if (turning) view.azimuth -= seconds * TURNS_PER_SECOND * 2 * Math.PI;
  if (drawing) {
    progress += seconds * LOOPS_PER_SECOND;
    reveal(progress);
    drawing = shown < page.most_loops;
  }
  stages.forEach(paint);
  moving = turning || drawing;
  if (moving) request();
}

function paint(canvas, i) {
  const box = canvas.getBoundingClientRect();
  if (!box.width || box.bottom < 0 || box.top > innerHeight) return;
  const [width, height] = [box.width, box.height].map((x) => Math.max(1, Math.round(x * scale)));
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  if (gl.canvas.width < width) gl.canvas.width = width;
  if (gl.canvas.height < height) gl.canvas.height = height;
  render(i, width, height);
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  context.drawImage(gl.canvas, 0, gl.canvas.height - height, width, height, 0, 0, width, height);
}

function reveal(n) {
  shown = Math.min(Math.floor(n), page.most_loops);
  slider.value = shown;
  byId("shown").textContent = `${shown} of ${page.most_loops}`;
  request();
}

function press(id, on) {
  byId(id).setAttribute("aria-pressed", on);
  request();
  return on;
}

function rotate(x, y) {
  turning = press("turn", false);
  view.azimuth -= x;
  view.elevation = Math.min(Math.max(view.elevation + y, -1.5), 1.5);
}

// The point of the picture at `at` stays where it is.
function zoom(factor, at = [0, 0]) {
  const zoomed = Math.min(Math.max(view.zoom * factor, 0.5), 20), ratio = zoomed / view.zoom;
  view.shift = view.shift.map((x, k) => at[k] - (at[k] - x) * ratio);
  view.zoom = zoomed;
  request();
}

function goHome() {
  view = { ...HOME, shift: [0, 0] };
  request();
}

function open(i) {
  if (page.shapes.length === 1) return;
  if (i === null) goHome();
  opened = i;
  document.body.classList.toggle("fits", fits());
  byId("back").hidden = i === null;
  stages.forEach((canvas, j) => { canvas.closest("figure").hidden = i !== null && i !== j; });
  request();
}

// Whether what is seen fills the window, so that the wheel may zoom; else it moves the page.
function fits() { return opened !== null || page.shapes.length <= 2; }

function where(canvas, event) {
  const box = canvas.getBoundingClientRect();
  return [2 * (event.clientX - box.left) / box.width - 1,
    1 - 2 * (event.clientY - box.top) / box.height];
}

function listen(canvas, i) {
  const fingers = new Map();
  let moved = 0;
  canvas.addEventListener("pointerdown", (event) => {
    if (!fingers.size) moved = 0;
    fingers.set(event.pointerId, event);
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const last = fingers.get(event.pointerId);
    if (!last) return;
    const [x, y] = [event.clientX - last.clientX, event.clientY - last.clientY];
    moved += Math.abs(x) + Math.abs(y);
    const other = [...fingers.values()].find((finger) => finger.pointerId !== event.pointerId);
    fingers.set(event.pointerId, event);
    if (!other) {
      if (moved > 4) rotate(0.01 * x, 0.01 * y);
    } else if (fits()) {
      const [far, was] = [event, last].map((finger) =>
        Math.hypot(finger.clientX - other.clientX, finger.clientY - other.clientY));
      const [a, b] = [where(canvas, event), where(canvas, other)];
      zoom(far / Math.max(was, 1), [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2]);
    }
  });
  const leave = (event) => fingers.delete(event.pointerId);
  for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, leave);
  canvas.addEventListener("click", () => { if (moved <= 4 && opened === null) open(i); });
  canvas.addEventListener("dblclick", () => { if (fits()) goHome(); });
  canvas.addEventListener("wheel", (event) => {
    if (!fits()) return;
    event.preventDefault();
    zoom(Math.exp(-0.0015 * event.deltaY * (event.deltaMode ? 30 : 1)), where(canvas, event));
  }, { passive: false });
  const keys = {
    ArrowLeft: () => rotate(-0.1, 0), ArrowRight: () => rotate(0.1, 0),
    ArrowUp: () => rotate(0, -0.1), ArrowDown: () => rotate(0, 0.1),
    "+": () => zoom(1.2), "=": () => zoom(1.2), "-": () => zoom(1 / 1.2), Home: goHome,
    Enter: () => open(opened === null ? i : null),
  };
  canvas.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    keys[event.key]();
  });
}

function build() {
  for (const [i, shape] of page.shapes.entries()) {
    const figure = document.createElement("figure"), stage = document.createElement("div");
    const canvas = document.createElement("canvas"), caption = document.createElement("figcaption");
    stage.className = "stage";
    stage.append(canvas);
    figure.append(stage, caption);
    caption.textContent = shape.caption;
    caption.hidden = !shape.caption;
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${shape.caption || document.title}. Arrow keys turn it.`);
    byId("shapes").append(figure);
    stages.push(canvas);
    listen(canvas, i);
  }
  for (const role of page.roles.filter((role) => role.legend)) {
    const item = document.createElement("li"), line = document.createElement("i");
    line.style.background = `rgb(${role.color.map((x) => 255 * x)})`;
    item.append(line, role.legend);
    byId("legend").append(item);
  }
  const [wide, high] = page.frame, aspect = Math.min(Math.max(wide / high, 0.7), 1.8);
  byId("shapes").style.setProperty("--aspect", aspect);
  document.body.classList.toggle("fits", fits());
  slider.max = page.most_loops;
  slider.parentElement.hidden = byId("draw").hidden = !page.most_loops;
  slider.addEventListener("input", () => { drawing = false; reveal(slider.valueAsNumber); });
  byId("draw").addEventListener("click", () => { drawing = true; reveal(progress = 0); });
  byId("turn").addEventListener("click", () => { turning = press("turn", !turning); });
  byId("surface").addEventListener("click", () => { surface = press("surface", !surface); });
  byId("back").addEventListener("click", () => open(null));
  addEventListener("keydown", (event) => { if (event.key === "Escape") open(null); });
  addEventListener("scroll", request);
  new ResizeObserver(request).observe(byId("shapes"));
  document.querySelector("footer").hidden = false;
}

async function start() {
  const canvas = document.createElement("canvas");
  gl = canvas.getContext("webgl2", { antialias: true });
  if (!gl || !window.DecompressionStream) throw Error("it needs a newer browser, with WebGL 2");
  models = await unpack();
  prepare();
  canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
  canvas.addEventListener("webglcontextrestored", () => { prepare(); request(); });
  build();
  turning = press("turn", !matchMedia("(prefers-reduced-motion: reduce)").matches);
  reveal(page.most_loops);
}

start().catch((error) => {
  byId("trouble").textContent = `This page cannot be drawn: ${error.message}.`;
  byId("trouble").hidden = false;
});
