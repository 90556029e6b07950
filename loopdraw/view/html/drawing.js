// Draws a shape with WebGL, as it is seen from the direction in `view`.

const TAN = Math.tan(12 * Math.PI / 180); // of half the field of view
// As `scene.fit_camera`: 32 degrees from the front, 20 above the horizon.
const HOME = { azimuth: 0.56, elevation: 0.35, zoom: 1, shift: [0, 0] };

let gl, programs, models;

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
