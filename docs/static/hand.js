/* The pictures of the page "Under your hand". All is computed here, in float64; the tests hold it
   equal to what the Python package computes. */

"use strict";

// Mathematics: Algorithm 1 on the two lines of notebook 3

const TASKS = [
  { H: [[4, 2], [2, 2]], best: [2, 1] }, // Hessian of the support loss, and theta*
  { H: [[4, -2], [-2, 2]], best: [-1, 2] },
];
const BETA = 0.5; // the meta-rate; with it no meta-step of MAML goes past the bottom
const CURVATURES = [3 + Math.sqrt(5), 3 - Math.sqrt(5)]; // eigenvalues of both Hessians
const LOOKS = ["steep", "flat"];
const STEEP = [(1 + Math.sqrt(5)) / 2, 1]; // eigenvector of the larger one; task 2's is mirrored

const dot = (u, v) => u.reduce((total, value, i) => total + value * v[i], 0);
const add = (u, v, scale = 1) => u.map((value, i) => value + scale * v[i]);
const mean = (vectors) => vectors.reduce((u, v) => add(u, v)).map((value) => value / vectors.length);

function quadratics(alpha, theta) {
  const shares = TASKS.map(({ H, best }) => {
    const inner = H.map((row) => dot(row, add(theta, best, -1))); // line 5: H (theta - theta*)
    const moved = add(theta, inner, -alpha); // line 6: theta' = theta - alpha H (theta - theta*)
    const error = add(moved, best, -1);
    const g = error.map((value) => 2 * value); // of the query loss |theta' - theta*|^2, at theta'
    const share = add(g, H.map((row) => dot(row, g)), -alpha); // (I - alpha H) g
    return { moved, g, share, loss: dot(error, error) };
  });
  return {
    shares,
    meta: mean(shares.map((task) => task.share)), // line 8: the meta-gradient
    first: mean(shares.map((task) => task.g)), // first order leaves the bracket out
    loss: (shares[0].loss + shares[1].loss) / 2,
    factors: CURVATURES.map((curvature) => 1 - alpha * curvature),
  };
}

// Mathematics: a network of ReLU layers, its gradient by backpropagation, and the inner loop

// A layer is { W: rows of weights (in, out), b: biases (out) }.
function forward(layers, x) { // a_0 = x, a_l = relu(a_{l-1} W_l + b_l); no relu after the last
  const a = [[x]];
  layers.forEach(({ W, b }, l) => {
    const z = b.slice();
    W.forEach((row, i) => row.forEach((w, j) => (z[j] += a[l][i] * w)));
    a.push(l < layers.length - 1 ? z.map((value) => Math.max(value, 0)) : z);
  });
  return a;
}

const predict = (layers, x) => forward(layers, x).at(-1)[0];

function loss(layers, points) { // L = 1/n sum_j (f(x_j) - y_j)^2
  const squares = points.map(([x, y]) => (predict(layers, x) - y) ** 2);
  return squares.reduce((total, square) => total + square, 0) / points.length;
}

function gradient(layers, points) { // of L, by the chain rule from the last layer to the first
  const G = layers.map(({ W, b }) => ({ W: W.map((row) => row.map(() => 0)), b: b.map(() => 0) }));
  for (const [x, y] of points) {
    const a = forward(layers, x);
    let delta = [(2 / points.length) * (a.at(-1)[0] - y)]; // dL/dz of the last layer
    for (let l = layers.length - 1; l >= 0; l--) {
      delta.forEach((d, j) => (G[l].b[j] += d)); // dL/db = delta
      a[l].forEach((value, i) => delta.forEach((d, j) => (G[l].W[i][j] += value * d))); // a^T delta
      // one layer down: delta W^T, where relu let something through
      delta = layers[l].W.map((row, i) => (a[l][i] > 0 ? dot(row, delta) : 0));
    }
  }
  return G;
}

function adapt(layers, points, alpha, steps) { // theta, then theta <- theta - alpha grad L(theta)
  const path = [layers];
  for (let step = 0; step < steps; step++) {
    const G = gradient(path[step], points); // without points it is 0
    path.push(
      path[step].map(({ W, b }, l) => ({
        W: W.map((row, i) => add(row, G[l].W[i], -alpha)),
        b: add(b, G[l].b, -alpha),
      })),
    );
  }
  return path;
}

function decode({ sizes, weights }) { // float32 in base64: of each layer W, then b
  const bytes = Uint8Array.from(atob(weights), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  const take = (n) => Array.from({ length: n }, () => view.getFloat32(4 * at++, true));
  return sizes.slice(1).map((out, l) => {
    const W = Array.from({ length: sizes[l] }, () => take(out));
    return { W, b: take(out) };
  });
}

// Drawing

const STAR = "M0,-9L2.6,-3L9,-2.6L4,1.5L5.6,8L0,4.4L-5.6,8L-4,1.5L-9,-2.6L-2.6,-3Z";
const DISC = "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0";
const SQUARE = "M-3.5,-3.5h7v7h-7Z";
const DIAMOND = "M0,-6L6,0L0,6L-6,0Z";
const CROSS = "M-5,-5L5,5M-5,5L5,-5";
const TURN = Array.from({ length: 73 }, (_, i) => (i * Math.PI) / 36);
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const HANDLE = `<g class="handle" tabindex="0" role="button" aria-roledescription="movable point">
  <circle class="reach" r="20"/><circle class="ring" r="11"/><circle class="dot" r="6"/></g>`;

function fixed(value, digits = 3) {
  if (!Number.isFinite(value) || Math.abs(value) >= 1e6) return "very large";
  const text = value.toFixed(digits);
  return /[1-9]/.test(text) ? text.replace("-", "−") : text.replace("-", ""); // no minus zero
}

const pair = (v, digits) => `(${v.map((value) => fixed(value, digits)).join(", ")})`;

function show(figure, words) {
  for (const [name, value] of Object.entries(words)) {
    figure.querySelector(`[data-show="${name}"]`).textContent = value;
  }
}

/* An SVG whose axes run over x and y. What is drawn is text, made anew each time; the points that
   can be moved are elements that stay, as one of them has the focus. */
class Plane {
  constructor(svg, x, y, moved) {
    Object.assign(this, { svg, x, y, moved });
    [, , this.width, this.height] = svg.getAttribute("viewBox").split(" ").map(Number);
  }

  draw(...parts) {
    this.svg.querySelector(".drawn").innerHTML = parts.flat(Infinity).join("");
  }

  to([x, y]) { // where a point is in the picture; SVG takes no numbers beyond all bounds
    const u = ((x - this.x[0]) / (this.x[1] - this.x[0])) * this.width;
    const v = ((this.y[1] - y) / (this.y[1] - this.y[0])) * this.height;
    return [u, v].map((value) => (Number.isNaN(value) ? 1e4 : Math.max(-1e4, Math.min(1e4, value))));
  }

  at({ clientX, clientY }) { // the point under mouse or finger
    const { left, top, width, height } = this.svg.getBoundingClientRect();
    const x = this.x[0] + ((clientX - left) / width) * (this.x[1] - this.x[0]);
    return [x, this.y[1] - ((clientY - top) / height) * (this.y[1] - this.y[0])];
  }

  line(points, look) {
    const places = points.map((p) => this.to(p).map((value) => value.toFixed(2)));
    return `<path class="${look}" d="M${places.join("L")}"/>`;
  }

  mark(point, look, shape) { // a path around (0, 0)
    return `<path class="mark ${look}" transform="translate(${this.to(point)})" d="${shape}"/>`;
  }

  text(point, words, right = 8, down = -7) {
    const [u, v] = this.to(point);
    return `<text x="${u + right}" y="${v + down}">${words}</text>`;
  }

  arrow(from, to, look) {
    const [tail, tip] = [this.to(from), this.to(to)];
    const way = add(tip, tail, -1);
    const length = Math.hypot(...way);
    if (length < 1) return "";
    const head = Math.min(11, length) / length;
    const neck = add(tip, way, -head);
    const across = [-0.4 * head * way[1], 0.4 * head * way[0]];
    const triangle = [tip, add(neck, across), add(neck, across, -1)];
    const shaft = `<path class="${look}" d="M${tail}L${neck}"/>`;
    return `${shaft}<path class="head ${look}" d="M${triangle.join("L")}Z"/>`;
  }

  grid(ticks, names) {
    const [[x0, x1], [y0, y1]] = [this.x, this.y];
    return ticks.map((n) => [
      this.line([[n, y0], [n, y1]], "grid") + this.line([[x0, n], [x1, n]], "grid"),
      n > x0 ? this.text([n, y0], fixed(n, 0), 3, -5) : "",
      n > y0 ? this.text([x0, n], fixed(n, 0), 3, -5) : "",
    ]).concat(this.text([x1, y0], names[0], -12, -5), this.text([x0, y1], names[1], 4, 14));
  }

  /* Add a point that mouse, finger and arrow keys move, with Shift further. */
  handle(place, remove) {
    this.svg.insertAdjacentHTML("beforeend", HANDLE);
    const point = this.svg.lastElementChild;
    point.place = place;
    point.onpointerdown = (event) => {
      point.setPointerCapture(event.pointerId);
      point.focus();
      event.preventDefault(); // no text is selected
    };
    point.onpointermove = (event) => {
      if (point.hasPointerCapture(event.pointerId)) this.move(point, this.at(event));
    };
    const still = (event) => event.preventDefault(); // the finger does not scroll the page
    point.addEventListener("touchstart", still, { passive: false });
    point.onkeydown = (event) => {
      const way = KEYS[event.key], step = event.shiftKey ? 1 : 0.1;
      if (way) this.move(point, add(point.place, way, step));
      else if (remove && ["Delete", "Backspace"].includes(event.key)) remove(point);
      else return;
      event.preventDefault(); // the page does not scroll
    };
    return point;
  }

  move(point, place) { // to two decimals, within the picture
    point.place = [this.x, this.y].map(([low, high], i) => {
      return Math.round(100 * Math.max(low, Math.min(high, place[i]))) / 100;
    });
    this.moved(point);
  }

  put(point, name) {
    point.setAttribute("transform", `translate(${this.to(point.place)})`);
    point.setAttribute("aria-label", name);
  }
}

// The first picture

function twoTasks(figure) {
  const { alpha, a, b, one, many, repair, back } = figure.querySelector("form").elements;
  const plane = new Plane(figure.querySelector("svg.plane"), [-2, 4], [-1, 3.5], begin);
  const factors = new Plane(figure.querySelector("svg.factors"), [0, 0.4], [-1.25, 1.25]);
  const theta = plane.handle([0, 0]);
  let walks, timer;

  function begin() { // a walk begins where theta is
    clearInterval(timer);
    walks = { first: [theta.place], meta: [theta.place] };
    draw();
  }

  function metaStep() { // line 8: theta <- theta - beta * meta-gradient
    for (const [name, walk] of Object.entries(walks)) {
      walk.push(add(walk.at(-1), quadratics(alpha.valueAsNumber, walk.at(-1))[name], -BETA));
    }
    theta.place = walks.meta.at(-1);
    draw();
  }

  function play(steps) {
    clearInterval(timer);
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (still) for (let i = 0; i < steps; i++) metaStep();
    else timer = setInterval(() => (steps-- ? metaStep() : clearInterval(timer)), 150);
  }

  function draw() {
    const rate = alpha.valueAsNumber, now = quadratics(rate, theta.place);
    const inner = TASKS.map((task, i) => innerStep(task.best, now.shares[i].moved, i));
    plane.draw(plane.grid([-2, -1, 0, 1, 2, 3], "ab"), landscape(rate), inner, outer(now));
    plane.put(theta, `θ = ${pair(theta.place, 2)}`);
    drawFactors(rate, now.factors);
    [a.value, b.value] = theta.place;
    const [steep, flat] = now.factors.map((factor) => fixed(factor));
    const [first, meta, loss] = [pair(now.first), pair(now.meta), fixed(now.loss)];
    const [placeA, placeB] = theta.place.map((value) => fixed(value, 2));
    show(figure, { alpha: fixed(rate), a: placeA, b: placeB, steps: walks.meta.length - 1 });
    show(figure, { steep, flat, first, meta, loss });
    now.shares.forEach(({ moved, g, share }, i) => {
      show(figure, { [`moved${i}`]: pair(moved), [`g${i}`]: pair(g), [`share${i}`]: pair(share) });
    });
  }

  function landscape(rate) {
    // The meta-loss is sum_j A_j (theta_j - bottom_j)^2 and a constant, with A the mean of
    // (I - alpha H)^2, which is diagonal since the tasks mirror each other.
    const A = [(1 - 4 * rate) ** 2 + 4 * rate ** 2, (1 - 2 * rate) ** 2 + 4 * rate ** 2];
    const bottom = quadratics(rate, [0, 0]).meta.map((value, j) => -value / (2 * A[j]));
    const [wide, high] = A.map((value) => 1 / Math.sqrt(value));
    const ellipse = TURN.map((angle) => [wide * Math.cos(angle), high * Math.sin(angle)]);
    const sizes = [0.4, 0.8, 1.2, 1.6, 2, 2.4, 2.8, 3.2];
    const rings = sizes.map((size) => plane.line(ellipse.map((p) => add(bottom, p, size)), "ring"));
    const unadapted = mean(TASKS.map((task) => task.best));
    return [rings, plane.mark(bottom, "bottom", CROSS), plane.mark(unadapted, "plain", DIAMOND)];
  }

  function innerStep(best, moved, i) {
    const steep = [i ? -STEEP[0] : STEEP[0], STEEP[1]].map((value) => value / Math.hypot(...STEEP));
    const flat = [-steep[1], steep[0]];
    const foot = (point) => add(best, flat, dot(add(point, best, -1), flat)); // on the flat axis
    return [
      plane.line([add(best, flat, -9), add(best, flat, 9)], "axis"),
      plane.line([foot(theta.place), theta.place], "error"), // what is wrong along the steep axis
      plane.line([foot(moved), moved], "left"), // and what the step leaves over of it
      plane.arrow(theta.place, moved, "inner"),
      plane.mark(best, "best", STAR) + plane.text(best, `θ*${"₁₂"[i]}`, 10),
      plane.mark(moved, "moved", DISC) + plane.text(moved, `θ′${"₁₂"[i]}`),
    ];
  }

  function outer(now) {
    return Object.entries({ first: SQUARE, meta: DISC }).map(([name, shape]) => [
      plane.line(walks[name], `${name} walk`),
      walks[name].slice(1).map((p) => plane.mark(p, name, shape)),
      plane.arrow(theta.place, add(theta.place, now[name], -BETA), name),
    ]);
  }

  function drawFactors(rate, values) {
    const line = (from, to, look) => factors.line([from, to], look);
    const levels = [-1, 0, 1].map((y) => [
      line([0, y], [0.4, y], y === 1 ? "first walk" : "grid"),
      factors.text([0, y], fixed(y, 0), 4, 15),
    ]);
    const lines = CURVATURES.map((curvature, i) => [
      line([0, 1], [0.4, 1 - 0.4 * curvature], LOOKS[i]),
      factors.mark([rate, values[i]], LOOKS[i], DISC),
      factors.text([0.24, 1 - 0.24 * curvature], `λ = ${fixed(curvature, 2)}`, 4, i ? 20 : -4),
    ]);
    factors.draw(line([rate, -2], [rate, 2], "grid"), levels, lines);
  }

  figure.oninput = (event) => {
    theta.place = [a, b].map((slider, i) => {
      return event.target === slider ? slider.valueAsNumber : theta.place[i];
    });
    begin();
  };
  one.onclick = () => play(1);
  many.onclick = () => play(15);
  repair.onclick = () => {
    alpha.value = 1 / CURVATURES[0];
    begin();
  };
  back.onclick = () => plane.move(theta, [0, 0]);
  begin();
}

// The second picture

const WAVES = [ // amplitude, phase, and where its points are: all over the range, or in one half
  [4, 2.8, [-4.2, -2.3, -0.4, 1.6, 3.8]],
  [2, 0.6, [0.4, 1.3, 2.4, 3.5, 4.6]],
  [4.5, 1.2, [-4.7, -3.6, -2.6, -1.5, -0.6]],
];
const RATES = [0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05];

function clickedWave(figure, networks) {
  const { elements } = figure.querySelector("form");
  const { alpha, steps, baseline, other, extra, drop, clear } = elements;
  const plane = new Plane(figure.querySelector("svg.plane"), [-5, 5], [-6, 6], changed);
  const [maml, pooled] = [decode(networks.maml), decode(networks.pooled)];
  const grid = Array.from({ length: 121 }, (_, i) => -5 + i / 12);
  let points = [], chosen, wave, waves = 0;

  function addPoint(place) {
    const point = plane.handle(place, remove);
    point.onfocus = () => {
      chosen = point;
      draw();
    };
    points.push(point);
    return point;
  }

  function changed() { // the points are no longer of the wave
    wave = null;
    draw();
  }

  function remove(point) {
    points = points.filter((other) => other !== point);
    point.remove();
    chosen = points.at(-1);
    (chosen ?? extra).focus();
    changed();
  }

  function begin(curve, xs) {
    for (const point of points) point.remove();
    [points, chosen, wave] = [[], null, curve];
    for (const x of xs) addPoint([x, curve(x)]);
    draw();
  }

  function another() {
    const [amplitude, phase, xs] = WAVES[waves++ % WAVES.length];
    begin((x) => amplitude * Math.sin(x - phase), xs);
  }

  function curves(path, name) { // before, in between, and after the last step
    return path.map((layers, i) => {
      const look = i === path.length - 1 ? "after" : i ? "between" : "before";
      return plane.line(grid.map((x) => [x, predict(layers, x)]), `${name} ${look}`);
    });
  }

  function draw() {
    const rate = RATES[alpha.value], places = points.map((point) => point.place);
    const paths = [maml, pooled].map((layers) => adapt(layers, places, rate, steps.valueAsNumber));
    const truth = wave ? plane.line(grid.map((x) => [x, wave(x)]), "truth") : "";
    const beside = baseline.checked ? curves(paths[1], "first") : "";
    plane.draw(plane.grid([-4, -2, 0, 2, 4], "xy"), truth, beside, curves(paths[0], "meta"));
    points.forEach((point, i) => plane.put(point, `point ${i + 1} at ${pair(point.place, 2)}`));
    paths.forEach((path, i) => {
      const error = (layers) => (places.length ? fixed(loss(layers, places)) : "–");
      show(figure, { [`before${i}`]: error(path[0]), [`after${i}`]: error(path.at(-1)) });
    });
    alpha.setAttribute("aria-valuetext", rate);
    const said = chosen?.getAttribute("aria-label") ?? "";
    show(figure, { alpha: rate, steps: steps.value, count: points.length, chosen: said });
    drop.disabled = !chosen;
  }

  function addOwn(place) {
    const point = addPoint(place);
    plane.move(point, place);
    point.focus();
  }

  plane.svg.onclick = (event) => event.target.closest(".handle") || addOwn(plane.at(event));
  figure.oninput = draw;
  other.onclick = another;
  extra.onclick = () => addOwn([0, 0]);
  drop.onclick = () => remove(chosen);
  clear.onclick = () => begin(null, []);
  another();
}

const [first, second] = ["two-tasks", "clicked-wave"].map((id) => document.getElementById(id));
twoTasks(first);
clickedWave(second, JSON.parse(document.getElementById("networks").textContent));
