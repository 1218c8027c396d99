"use strict";
// Shows the values under the pointer; the charts are complete without it.
const NS = "http://www.w3.org/2000/svg";
const node = (parent, name, attrs) => {
  const n = parent.appendChild(document.createElementNS(NS, name));
  for (const k in attrs) n.setAttribute(k, attrs[k]);
  return n;
};
for (const svg of document.querySelectorAll("svg.plot")) {
  const lines = JSON.parse(svg.dataset.lines);
  const layer = svg.querySelector(".hover");
  const figure = svg.closest("figure");
  let tip = null;
  const hide = () => { layer.replaceChildren(); if (tip) tip.remove(); tip = null; };
  const show = (event) => {
    hide();
    const box = svg.getBoundingClientRect();
    const at = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
    let head = "", x = null;
    tip = document.createElement("div");
    tip.className = "tip";
    for (const l of lines) {
      if (!l.x || !l.x.length) continue;
      let lo = 0, hi = l.x.length - 1; // binary search for the nearest point
      while (hi - lo > 1) { const mid = (lo + hi) >> 1; if (l.x[mid] < at) lo = mid; else hi = mid; }
      const i = at - l.x[lo] < l.x[hi] - at ? lo : hi;
      if (Math.abs(l.x[i] - at) > 40) continue;
      if (x === null) { x = l.x[i]; head = l.t[i][0]; }
      node(layer, "circle", { class: "dot s" + l.s, cx: l.x[i], cy: l.y[i], r: 3.5 });
      const row = tip.appendChild(document.createElement("div"));
      const key = node(row, "svg", { viewBox: "0 0 20 8" });
      node(key, "path", { class: "line s" + l.s, d: "M0 4H20" });
      row.append(l.n + ": " + l.t[i][1]);
    }
    if (x === null) { hide(); return; }
    const top = document.createElement("b");
    top.textContent = head;
    tip.prepend(top);
    layer.prepend(node(layer, "path", { class: "cross", d: "M" + x + " 12V236" }));
    figure.append(tip);
    const f = figure.getBoundingClientRect();
    const px = event.clientX - f.left, w = tip.offsetWidth;
    tip.style.left = (px + 16 + w > f.width ? Math.max(px - w - 16, 0) : px + 16) + "px";
    tip.style.top = (box.top - f.top + 8) + "px";
  };
  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerleave", hide);
}
addEventListener("beforeprint", () => { for (const d of document.querySelectorAll("details")) d.open = true; });
