// The page as a whole. One WebGL canvas draws each shape in turn, and what it drew is copied to where
// the shape is on the page: browsers allow few WebGL canvases, pages have many shapes. All shapes are
// seen from the same direction.

const page = JSON.parse(byId("page").textContent);
const TURNS_PER_SECOND = 0.1, LOOPS_PER_SECOND = 14;

const slider = byId("reveal"), stages = [];
let view = { ...HOME, shift: [0, 0] };
let shown = page.most_loops, progress = 0, drawing = false, turning = false, surface = true;
let opened = page.shapes.length > 1 ? null : 0; // the shape that alone is seen
let waiting = false, moving = false, before = 0, n_slow = 0;
let scale = Math.min(Math.max(devicePixelRatio, 2), 3); // fewer pixels where that is too slow

function byId(id) { return document.getElementById(id); }

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
