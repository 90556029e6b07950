// The mouse, fingers and keys on a shape.

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
