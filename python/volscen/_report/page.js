"use strict";
(function () {
  const el = (id) => document.getElementById(id);
  const minus = (text) => text.replace(/-/g, "\u2212");
  const signed = (v, d, unit) => minus((v > 0 ? "+" : "") + v.toFixed(d) + unit);

  // ------------------------------------------------------------------ hints beside the pointer
  const hint = document.createElement("div");
  hint.className = "hint";
  hint.hidden = true;
  document.body.append(hint);
  const away = () => { hint.hidden = true; };
  document.addEventListener("pointermove", (e) => {
    const mark = e.target.closest ? e.target.closest("[data-t]") : null;
    if (!mark) { away(); return; }
    hint.textContent = mark.dataset.t;
    hint.hidden = false;
    const w = hint.offsetWidth, h = hint.offsetHeight;
    const x = Math.max(4, Math.min(e.clientX + 12, document.documentElement.clientWidth - w - 4));
    const y = e.clientY - h - 10 < 4 ? e.clientY + 18 : e.clientY - h - 10;
    hint.style.transform = "translate(" + x + "px," + y + "px)";
  }, { passive: true });
  document.addEventListener("pointerleave", away);
  document.addEventListener("scroll", away, { passive: true });

  // ------------------------------------------------------------------ what is folded away is printed too
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    opened.forEach((d) => { d.open = true; });
  });
  addEventListener("afterprint", () => { opened.forEach((d) => { d.open = false; }); });

  // ------------------------------------------------------------------ explorer
  const source = el("explorer-data");
  if (!source) return;
  const D = JSON.parse(source.textContent);
  const scenario = el("x-scenario"), step = el("x-step"), tenor = el("x-tenor"), turn = el("x-turn");
  const value = (input) => (input ? +input.value : 0);
  const J = D.tau.length, I = D.money.length;
  const [vLow, vHigh] = D.range;
  const parts = D.colours.map((c) => [1, 3, 5].map((k) => parseInt(c.slice(k, k + 2), 16)));
  const colour = (v) => {
    const share = Math.sqrt(Math.max(0, Math.min(1, (v - vLow) / Math.max(vHigh - vLow, 1))));
    const at = share * (parts.length - 1), i = Math.min(Math.floor(at), parts.length - 2);
    return "rgb(" + parts[i].map((a, k) => Math.round(a + (parts[i + 1][k] - a) * (at - i))).join() + ")";
  };
  // Cells of a large grid are drawn every so often, the ends always.
  const every = (n, most) => {
    const by = Math.max(1, Math.ceil((n - 1) / most)), out = [];
    for (let i = 0; i < n; i += by) out.push(i);
    if (out[out.length - 1] !== n - 1) out.push(n - 1);
    return out;
  };
  const cols = every(I, 36), rows = every(J, 30);
  const unit = (x, low, high) => (high > low ? (x - low) / (high - low) : 0.5);
  const across = D.money.map((m) => unit(m, D.money[0], D.money[I - 1]) - 0.5);
  const deep = D.tau.map((t) => unit(Math.sqrt(t), Math.sqrt(D.tau[0]), Math.sqrt(D.tau[J - 1])) - 0.5);
  const days = (t) => { const d = 365 * t; return Math.abs(d - Math.round(d)) < 0.05 ? Math.round(d) + "d" : d.toFixed(1) + "d"; };

  // Seen from above, turned about the upright axis; the third number grows towards the eye.
  function eye(angle) {
    const a = angle * Math.PI / 180, c = Math.cos(a), s = Math.sin(a);
    return (x, y, h) => [208 + 232 * (c * x + s * y), 208 + 88 * (c * y - s * x) - 150 * h, c * y - s * x];
  }
  const height = (v) => unit(v, vLow, vHigh);
  const P = (p) => p[0].toFixed(1) + " " + p[1].toFixed(1);

  function drawSurface() {
    const at = eye(value(turn)), out = [];
    const V = D.vol[value(scenario)][value(step)];
    // Short maturities in front at 0 degrees: y runs from the far to the near side.
    const far = deep.map((y) => -y);
    const corners = [[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]];
    const seen = corners.map(([x, y]) => at(x, y, 0));
    out.push('<path class="floor" d="M' + seen.map(P).join("L") + 'Z"/>');
    let back = 0;
    seen.forEach((p, k) => { if (p[2] < seen[back][2]) back = k; });
    const beside = [(back + 1) % 4, (back + 3) % 4].sort((a, b) => seen[a][0] - seen[b][0]);
    ticks(vLow / 100, vHigh / 100, 4).forEach((v) => {
      const h = height(100 * v), wall = [beside[0], back, beside[1]].map((k) => at(corners[k][0], corners[k][1], h));
      out.push('<path class="grid" d="M' + wall.map(P).join("L") + '"/>');
      out.push('<text class="tick end" x="' + (wall[0][0] - 5).toFixed(1) + '" y="' + (wall[0][1] + 4).toFixed(1) + '">' + v + "%</text>");
    });
    const quads = [];
    for (let j = 0; j + 1 < rows.length; j++) {
      for (let i = 0; i + 1 < cols.length; i++) {
        const q = [[rows[j], cols[i]], [rows[j], cols[i + 1]], [rows[j + 1], cols[i + 1]], [rows[j + 1], cols[i]]];
        const mean = q.reduce((sum, [r, c]) => sum + V[r][c], 0) / 4;
        const points = q.map(([r, c]) => at(across[c], far[r], height(V[r][c])));
        quads.push([points.reduce((sum, p) => sum + p[2], 0), '<path class="quad" fill="' + colour(mean) + '" d="M' + points.map(P).join("L") + 'Z"/>']);
      }
    }
    quads.sort((a, b) => a[0] - b[0]);
    quads.forEach((q) => out.push(q[1]));
    const net = (points) => out.push('<path class="net" d="M' + points.map(P).join("L") + '"/>');
    rows.forEach((r) => net(cols.map((c) => at(across[c], far[r], height(D.now[r][c])))));
    cols.forEach((c) => net(rows.map((r) => at(across[c], far[r], height(D.now[r][c])))));
    // Numbers along the two edges in front.
    const front = (back + 2) % 4, near = corners[front];
    const mark = (x, y, text, edge) => {
      const p = at(x * 1.05, y * 1.05, 0), side = edge[0] < at(0, 0, 0)[0] ? "end" : "";
      out.push('<text class="tick ' + side + '" x="' + p[0].toFixed(1) + '" y="' + (p[1] + 13).toFixed(1) + '">' + text + "</text>");
    };
    const some = (n) => [...new Set([0, Math.floor((n - 1) / 2), n - 1])];
    some(I).forEach((i) => mark(across[i] * 0.9, near[1], "K/F " + D.money[i].toFixed(2), at(0, near[1], 0)));
    some(J).forEach((j) => mark(near[0], far[j] * 0.9, days(D.tau[j]), at(near[0], 0, 0)));
    el("x-surface").innerHTML = out.join("");
  }

  function ticks(low, high, n) {
    const raw = (high - low) / n, power = Math.pow(10, Math.floor(Math.log10(raw)));
    const by = [1, 2, 2.5, 5, 10].map((m) => m * power).find((m) => m >= raw * (1 - 1e-9)), out = [];
    for (let k = Math.ceil(low / by - 1e-9); k * by <= high * (1 + 1e-12); k++) out.push(+(k * by).toPrecision(10));
    return out;
  }

  function drawSmile() {
    const s = value(step), j = value(tenor), V = D.vol[value(scenario)][s][j], B = D.band[s];
    let low = Infinity, high = -Infinity;
    D.vol.forEach((one) => one[s][j].forEach((v) => { low = Math.min(low, v); high = Math.max(high, v); }));
    [D.now[j], B[0][j], B[2][j]].forEach((line) => line.forEach((v) => { low = Math.min(low, v); high = Math.max(high, v); }));
    low = low / 100 - 0.5; high = high / 100 + 0.5;
    const x = (m) => 46 + 362 * unit(m, D.money[0], D.money[I - 1]), y = (v) => 250 - 238 * unit(v, low, high);
    const path = (line) => line.map((v, i) => x(D.money[i]).toFixed(1) + " " + y(v / 100).toFixed(1)).join("L");
    const out = [];
    ticks(low, high, 5).forEach((v) => out.push('<path class="grid" d="M46 ' + y(v).toFixed(1) + 'H408"/><text class="tick end" x="40" y="' + (y(v) + 4).toFixed(1) + '">' + v + "%</text>"));
    ticks(D.money[0], D.money[I - 1] + 1e-9, 5).forEach((m) => out.push('<text class="tick middle" x="' + x(m).toFixed(1) + '" y="266">' + m + "</text>"));
    out.push('<path class="band c1s" d="M' + path(B[0][j]) + "L" + B[2][j].map((v, i) => x(D.money[i]).toFixed(1) + " " + y(v / 100).toFixed(1)).reverse().join("L") + 'Z"/>');
    out.push('<path class="line c0" d="M' + path(D.now[j]) + '"/><path class="line c3 thick" d="M' + path(V) + '"/>');
    V.forEach((v, i) => out.push('<circle class="dot c3" r="3" cx="' + x(D.money[i]).toFixed(1) + '" cy="' + y(v / 100).toFixed(1) + '"/>'));
    out.push('<path class="axis" d="M46 250H408"/><text class="label middle" x="227" y="286">moneyness K/F</text>');
    V.forEach((v, i) => {
      const a = i ? (x(D.money[i - 1]) + x(D.money[i])) / 2 : 46, b = i + 1 < I ? (x(D.money[i + 1]) + x(D.money[i])) / 2 : 408;
      out.push('<rect class="hit" x="' + a.toFixed(1) + '" y="12" width="' + (b - a).toFixed(1) + '" height="238" data-t="K/F ' + D.money[i] + ": " + (v / 100).toFixed(2) + "%, today " + (D.now[j][i] / 100).toFixed(2) + "%, 5\u201395% " + (B[0][j][i] / 100).toFixed(2) + " to " + (B[2][j][i] / 100).toFixed(2) + '%"/>');
    });
    const svg = el("x-smile");
    svg.innerHTML = out.join("");
    el("x-smile-about").textContent = "Volatility by moneyness at " + days(D.tau[j]) + " to expiry.";
    const middle = V[Math.round((I - 1) / 2)] / 100;
    svg.setAttribute("aria-label", "Smile of the scenario at " + days(D.tau[j]) + ": " + (V[0] / 100).toFixed(1) + "% at K/F " + D.money[0] + ", " + middle.toFixed(1) + "% in the middle, " + (V[I - 1] / 100).toFixed(1) + "% at K/F " + D.money[I - 1]);
  }

  function say() {
    const k = value(scenario), s = value(step);
    const put = (input, text) => { if (input) { el(input.id + "-out").textContent = text; input.setAttribute("aria-valuetext", text); } };
    put(scenario, D.name[k] + " (" + (100 * D.share[k]).toFixed(1) + "%)");
    put(step, D.day[s]);
    put(tenor, days(D.tau[value(tenor)]));
    put(turn, value(turn) + "\u00b0");
    const atm = D.atm[k][s];
    const text = "Scenario " + D.name[k] + ", " + D.day[s] + ": index " + signed(100 * D.growth[k][s], 2, "%") + ", " + D.tenor + "-day volatility " + (atm / 100).toFixed(2) + "% (" + signed((atm - D.now_atm) / 100, 2, "") + " points), weight " + D.weight[k].toFixed(2) + " times an equal one, arbitrage penalty " + minus(String(D.penalty[k][s])) + ". " + (100 * D.share[k]).toFixed(1) + "% of the probability has a return as low.";
    el("x-say").textContent = text;
    el("x-surface").setAttribute("aria-label", "Surface of scenario " + D.name[k] + " on " + D.day[s] + ", volatilities from " + (Math.min(...D.vol[k][s].map((r) => Math.min(...r))) / 100).toFixed(1) + "% to " + (Math.max(...D.vol[k][s].map((r) => Math.max(...r))) / 100).toFixed(1) + "%");
  }
  const draw = () => { drawSurface(); drawSmile(); say(); };
  const show = (k) => { scenario.value = k; draw(); };
  [scenario, step].forEach((input) => input && input.addEventListener("input", draw));
  if (tenor) tenor.addEventListener("input", () => { drawSmile(); say(); });
  turn.addEventListener("input", () => { drawSurface(); say(); });
  document.querySelectorAll("[data-go]").forEach((b) => b.addEventListener("click", () => show(+b.dataset.go)));
  document.querySelectorAll("[data-row]").forEach((b) => {
    const k = D.row.indexOf(+b.dataset.row);
    if (k < 0) { b.remove(); return; }
    b.addEventListener("click", () => { show(k); el("surfaces").scrollIntoView(); scenario.focus({ preventScroll: true }); });
  });
  // The surface turns with the pointer too.
  let from = null;
  const surface = el("x-surface");
  surface.addEventListener("pointerdown", (e) => { from = [e.clientX, value(turn)]; surface.setPointerCapture(e.pointerId); });
  surface.addEventListener("pointermove", (e) => {
    if (!from) return;
    turn.value = (((from[1] - (e.clientX - from[0]) / 2) % 360) + 360) % 360;
    drawSurface();
    say();
  });
  ["pointerup", "pointercancel"].forEach((name) => surface.addEventListener(name, () => { from = null; }));
  draw();
})();
