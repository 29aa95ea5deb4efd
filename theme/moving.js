// Figures that recompute: `:class: moving window`, `moving response` and `moving stop` on a figure. Their data is made by
// pages/moving.py; without this script the picture stays.
const moving = {
  times: (a, b) => [a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]],
  over: (a, b) => { const n = b[0] ** 2 + b[1] ** 2; return [(a[0] * b[0] + a[1] * b[1]) / n, (a[1] * b[0] - a[0] * b[1]) / n]; },

  // Λ̄ and B̄ of each mode, with step Δ = s · step; modes at or beyond the band limit α are left out.
  discretise({ Lambda, B, C, step }, s, method, alpha = Infinity, scaleOfMask = s) {
    return Lambda.map((l, i) => {
      const d = s * step[i], half = [l[0] * d / 2, l[1] * d / 2], one = [1 - half[0], -half[1]];
      let bar = moving.over([1 + half[0], half[1]], one), gain = moving.over([d, 0], one);
      if (method === "zoh") {
        const size = Math.exp(l[0] * d);
        bar = [size * Math.cos(l[1] * d), size * Math.sin(l[1] * d)];
        gain = moving.over([bar[0] - 1, bar[1]], l);
      }
      const kept = scaleOfMask * step[i] * Math.abs(l[1]) / (2 * Math.PI) < alpha / 2;
      return { bar, B: moving.times(gain, B[i]), C: kept ? C[i] : [0, 0] };
    });
  },
  // K_k = Re Σ C Λ̄^k B̄
  kernel(modes, count) {
    const state = modes.map((m) => m.B);
    return Array.from({ length: count }, () => modes.reduce((sum, m, i) => {
      const y = moving.times(m.C, state[i])[0];
      state[i] = moving.times(m.bar, state[i]);
      return sum + y;
    }, 0));
  },
  // |G(ω)|, G(ω) = ½ [C (1 − Λ̄ e^{−jω})⁻¹ B̄ + its mirror image], ω in radians per step
  gain(modes, omega) {
    const half = (w) => modes.reduce((sum, m) => {
      const turned = moving.times(m.bar, [Math.cos(w), -Math.sin(w)]);
      const g = moving.over(moving.times(m.C, m.B), [1 - turned[0], -turned[1]]);
      return [sum[0] + g[0] / 2, sum[1] + g[1] / 2];
    }, [0, 0]);
    const a = half(omega), b = half(-omega);
    return Math.hypot(a[0] + b[0], a[1] - b[1]);
  },
  // The steps' times and windows [from, to] in ms, up to a time: held, true or sliding.
  window(mode, hz) {
    const period = 1000 / hz;
    return { stride: mode === "held" ? 50 : period, length: mode === "sliding" ? 50 : period };
  },
  // One mode at every pixel after all steps up to a time, given sliding windows of 50 ms: x ← λ̄ x + (1 − λ̄) frame.
  states({ width, height, t, x, y }, hz, s, tau, now) {
    const kept = Math.exp((-s * 50) / tau), state = new Float64Array(width * height);
    let from = 0, to = 0;
    for (let k = 1; (1000 * k) / hz <= now + 1e-9; k++) {
      const end = 1e6 * k / hz;
      while (to < t.length && t[to] < end) to++;
      while (from < to && t[from] < end - 50000) from++;
      for (let i = 0; i < state.length; i++) state[i] *= kept;
      for (let i = from; i < to; i++) state[y[i] * width + x[i]] += 1 - kept;
    }
    return state;
  },
  events(recording) {
    const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    return { ...recording, t: new Uint32Array(bytes(recording.t).buffer), x: bytes(recording.x), y: bytes(recording.y), p: bytes(recording.p) };
  },
};
window.moving = moving;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const RATES = [10, 20, 40, 80, 100, 200];

function controls(figure, rows) {
  const box = document.createElement("div");
  box.className = "controls";
  const inputs = {};
  for (const [name, label, options] of rows) {
    const id = `${figure.id}-${name}`, caption = Object.assign(document.createElement("label"), { htmlFor: id, textContent: label });
    const isList = Array.isArray(options), input = document.createElement(isList ? "select" : "input");
    input.id = id;
    box.append(caption, input);
    if (isList) for (const [value, words] of options) input.append(new Option(words, value));
    else {
      Object.assign(input, { type: "range", ...options });
      box.append(Object.assign(document.createElement("output"), { htmlFor: id }));
    }
    inputs[name] = input;
  }
  const canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", figure.querySelector("img").alt);
  figure.querySelector("img").replaceWith(box, canvas);
  return { inputs, canvas, say: (name, words) => (inputs[name].nextElementSibling.textContent = words) };
}

function paint(canvas, width, height) {
  const scale = devicePixelRatio || 1, pen = canvas.getContext("2d");
  Object.assign(canvas, { width: width * scale, height: height * scale });
  pen.scale(scale, scale);
  pen.font = "12px sans-serif";
  pen.fillStyle = colour("--soft");
  pen.strokeStyle = colour("--line");
  return pen;
}

function windowFigure(figure, { recording }) {
  const { t, x, y, p } = moving.events(recording);
  const first = (us) => { let low = 0, high = t.length; while (low < high) { const m = (low + high) >> 1; if (t[m] < us) low = m + 1; else high = m; } return low; };
  const total = recording.duration_us / 1000;
  const { inputs, canvas, say } = controls(figure, [
    ["mode", "Windows", [["sliding", "sliding: 50 ms long"], ["true", "true rate: as long as a step"], ["held", "held: shorter, every 50 ms"]]],
    ["hz", "Rate", { min: 0, max: RATES.length - 1, value: 3 }],
    ["time", "Time", { min: 60, max: total, value: 400 }],
  ]);
  const play = Object.assign(document.createElement("button"), { textContent: "Play", type: "button" });
  canvas.before(play);

  function draw() {
    const hz = RATES[inputs.hz.value], { stride, length } = moving.window(inputs.mode.value, hz);
    const now = Math.floor(inputs.time.value / stride) * stride, from = first(1000 * (now - length)), to = first(1000 * now);
    say("hz", `${hz} Hz`);
    say("time", `${now.toFixed(0)} ms`);
    const wide = Math.max(canvas.clientWidth, 280), big = Math.min(wide, 460) / recording.width, high = recording.height * big;
    const pen = paint(canvas, wide, high + 92), left = (wide - recording.width * big) / 2;
    pen.fillStyle = colour("--raised");
    pen.fillRect(left, 0, recording.width * big, high);
    for (let i = from; i < to; i++) {
      pen.fillStyle = p[i] ? colour("--on") : colour("--off");
      pen.fillRect(left + x[i] * big, y[i] * big, big, big);
    }
    const place = (ms) => 10 + (ms / total) * (wide - 20), counts = [];
    for (let end = stride; end <= total; end += stride) counts.push([end, first(1000 * end) - first(1000 * Math.max(0, end - length))]);
    const most = Math.max(...counts.map((c) => c[1]));
    pen.fillStyle = colour("--soft");
    pen.fillText(`${to - from} events in ${length.toFixed(length < 10 ? 1 : 0)} ms; below, events of each step`, 10, high + 20);
    for (const [end, count] of counts) {
      pen.fillStyle = Math.abs(end - now) < stride / 2 ? colour("--accent") : colour("--soft");
      const bar = (40 * count) / most;
      pen.fillRect(place(end) - 1, high + 76 - bar, Math.max(1, Math.min(3, place(stride) - place(0) - 1)), bar);
    }
    pen.fillStyle = colour("--accent");
    pen.fillRect(place(Math.max(0, now - length)), high + 80, place(now) - place(Math.max(0, now - length)), 5);
  }
  let clock = 0;
  const tick = () => {
    inputs.time.value = +inputs.time.value + 5 >= total ? 60 : +inputs.time.value + 5;
    draw();
  };
  play.onclick = () => {
    play.textContent = clock ? "Play" : "Pause";
    clock = clock ? clearInterval(clock) || 0 : setInterval(tick, 50);  // ten times slower than the drive
  };
  return [inputs, draw];
}

function curve(pen, area, points, look) {
  pen.beginPath();
  Object.assign(pen, look);
  pen.save();
  pen.rect(area.left, area.top, area.width, area.height);
  pen.clip();
  pen.beginPath();
  points.forEach(([px, py], i) => pen[i ? "lineTo" : "moveTo"](area.left + px * area.width, area.top + (1 - py) * area.height));
  pen.stroke();
  pen.restore();
}

function axes(pen, area, words, marks) {
  pen.strokeStyle = colour("--soft");
  pen.fillStyle = colour("--soft");
  pen.lineWidth = 1;
  pen.strokeRect(area.left, area.top, area.width, area.height);
  pen.textAlign = "center";
  for (const [where, label] of marks) pen.fillText(label, area.left + where * area.width, area.top + area.height + 15);
  pen.fillText(words.x, area.left + area.width / 2, area.top + area.height + 31);
  pen.textAlign = "left";
  pen.fillText(words.y, area.left, area.top - 6);
}

function responseFigure(figure, { layer, base_hz: base }) {
  const { inputs, canvas, say } = controls(figure, [
    ["follow", "step_scale", [["yes", "follows the rate: 20 Hz / rate"], ["no", "stays 1"]]],
    ["method", "Discretisation", [["bilinear", "bilinear"], ["zoh", "zero-order hold"]]],
    ["mask", "Band limit", [["none", "none"], ["held", "held: for the rate that it runs at"], ["once", "once: for 20 Hz"]]],
    ["hz", "Rate", { min: 0, max: RATES.length - 1, value: 3 }],
    ["alpha", "α", { min: 0.05, max: 1, step: 0.05, value: 0.5 }],
  ]);
  const SECONDS = 3, LOW = 0.1, HIGH = 100;

  function draw() {
    const hz = RATES[inputs.hz.value], s = inputs.follow.value === "yes" ? base / hz : 1, method = inputs.method.value;
    const alpha = inputs.mask.value === "none" ? Infinity : +inputs.alpha.value;
    inputs.alpha.disabled = alpha === Infinity;
    say("hz", `${hz} Hz, × ${s}`);
    say("alpha", alpha === Infinity ? "–" : alpha.toFixed(2));
    const modes = moving.discretise(layer, s, method, alpha, inputs.mask.value === "once" ? 1 : s);
    const reference = moving.discretise(layer, 1, method);
    const wide = Math.max(canvas.clientWidth, 280), narrow = wide < 520, each = narrow ? wide - 30 : wide / 2 - 30;
    const pen = paint(canvas, wide, narrow ? 500 : 250);
    const left = { left: 12, top: 22, width: each, height: 180 };
    const right = narrow ? { ...left, top: 275 } : { ...left, left: each + 42 };
    const grey = { strokeStyle: colour("--soft"), lineWidth: 3, globalAlpha: 0.55 }, blue = { strokeStyle: colour("--on"), lineWidth: 1.6, globalAlpha: 1 };
    const kernels = [[reference, base, grey], [modes, hz, blue]].map(([m, rate, look]) => [moving.kernel(m, SECONDS * rate).map((k) => (k * rate) / base), rate, look]);
    const size = Math.max(...kernels[0][0].map(Math.abs));
    for (const [values, rate, look] of kernels) curve(pen, left, values.map((v, k) => [k / rate / SECONDS, 0.5 + (0.42 * v) / size]), look);
    axes(pen, left, { x: "time (s)", y: "kernel, per 50 ms" }, [0, 1, 2, 3].map((v) => [v / SECONDS, v]));
    const place = (f) => Math.log(f / LOW) / Math.log(HIGH / LOW), top = Math.max(...[0.1, 0.3, 1, 3].map((f) => moving.gain(reference, (2 * Math.PI * f) / base))) * 3;
    for (const [m, rate, look] of [[reference, base, grey], [modes, hz, blue]]) {
      const steps = Array.from({ length: 400 }, (_, i) => LOW * (rate / 2 / LOW) ** (i / 399));
      curve(pen, right, steps.map((f) => [place(f), 1 + Math.log10(moving.gain(m, (2 * Math.PI * f) / rate) / top + 1e-9) / 4]), look);
    }
    axes(pen, right, { x: "frequency (Hz)", y: "gain |G|, four decades" }, [0.1, 1, 10, 100].map((f) => [place(f), f]));
  }
  return [inputs, draw];
}

function stopFigure(figure, { stop }) {
  const recording = moving.events(stop), { width, height, t, x, y, p, at_ms: at } = recording, total = recording.duration_us / 1000;
  const { inputs, canvas, say } = controls(figure, [
    ["follow", "step_scale", [["yes", "follows the rate: 20 Hz / rate"], ["no", "stays 1"]]],
    ["hz", "Rate", { min: 0, max: RATES.length - 1, value: 1 }],
    ["tau", "Time constant", { min: 0.2, max: 4, step: 0.2, value: 1 }],
    ["time", "Time", { min: 0, max: total, step: 50, value: at + 1000 }],
  ]);
  const boxAt = (ms) => recording.boxes[Math.min(Math.round(ms / recording.box_ms), recording.boxes.length - 1)];
  const inBox = (state, [bx, by, w, h]) => {
    let sum = 0;
    for (let j = Math.floor(by); j < by + h; j++) for (let i = Math.floor(bx); i < bx + w; i++) sum += state[j * width + i] || 0;
    return sum;
  };

  function draw() {
    const hz = RATES[inputs.hz.value], s = inputs.follow.value === "yes" ? 20 / hz : 1, tau = 1000 * inputs.tau.value, now = +inputs.time.value;
    say("hz", `${hz} Hz`);
    say("tau", `${(+inputs.tau.value).toFixed(1)} s`);
    say("time", `${now - at > 0 ? "+" : ""}${now - at} ms`);
    const wide = Math.max(canvas.clientWidth, 280), narrow = wide < 520, each = narrow ? wide : (wide - 16) / 2, big = each / width, high = height * big;
    const pen = paint(canvas, wide, (narrow ? 2 * high + 66 : high + 44)), box = boxAt(now);
    const state = moving.states(recording, hz, s, tau, now), reference = moving.states(recording, 20, 1, tau, at).sort();
    const most = reference[Math.floor(0.995 * reference.length)] || 1; // a few pixels are hot
    const place = [[0, 20], narrow ? [0, high + 46] : [each + 16, 20]];
    pen.fillText("events of the last 50 ms", 0, 14);
    pen.fillText("state of a mode at each pixel", place[1][0], place[1][1] - 6);
    for (const [left, top] of place) { pen.fillStyle = colour("--paper"); pen.fillRect(left, top, each, high); pen.strokeRect(left, top, each, high); }
    for (let i = 0; i < t.length && t[i] < 1000 * now; i++) if (t[i] >= 1000 * (now - 50)) {
      pen.fillStyle = p[i] ? colour("--on") : colour("--off");
      pen.fillRect(x[i] * big, 20 + y[i] * big, big, big);
    }
    pen.fillStyle = colour("--ink");
    for (let i = 0; i < state.length; i++) if (state[i] > 0.01 * most) {
      pen.globalAlpha = Math.min(1, state[i] / most);
      pen.fillRect(place[1][0] + (i % width) * big, place[1][1] + Math.floor(i / width) * big, big + 0.3, big + 0.3);
    }
    pen.globalAlpha = 1;
    pen.strokeStyle = colour("--accent");
    pen.lineWidth = 2;
    pen.setLineDash([5, 3]);
    if (box.every(Number.isFinite)) for (const [left, top] of place) pen.strokeRect(left + box[0] * big, top + box[1] * big, box[2] * big, box[3] * big);
    const before = inBox(moving.states(recording, hz, s, tau, at), boxAt(at)), share = before ? inBox(state, box) / before : 0;
    pen.fillStyle = colour("--soft");
    if (now >= at) pen.fillText(`in the box: ${(100 * share).toFixed(0)} % of the state at the stop`, place[1][0], place[1][1] + high + 16);
  }
  return [inputs, draw];
}

for (const [name, build] of [["window", windowFigure], ["response", responseFigure], ["stop", stopFigure]]) {
  for (const figure of document.querySelectorAll(`figure.moving.${name}`)) {
    load("MOVING", "moving-data.js").then((data) => {
      const [inputs, draw] = build(figure, data);
      for (const input of Object.values(inputs)) input.addEventListener("input", draw);
      addEventListener("resize", draw);
      addEventListener("theme", draw);
      draw();
    });
  }
}
