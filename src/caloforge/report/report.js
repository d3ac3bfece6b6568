"use strict";
(function () {
  document.documentElement.classList.add("js");
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.setAttribute("role", "status");
  document.body.append(tip);

  /* Samples that are not wanted are hidden in all figures at once. */
  for (const box of document.querySelectorAll("#samples input")) {
    const apply = () => document.body.classList.toggle("off-" + box.value, !box.checked);
    box.addEventListener("change", apply);
    apply();
  }

  const shown = (value) => (value === null || value === undefined ? "none" : String(value));
  const place = (value, [low, high, log]) =>
    log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);

  function rows(panel, share) {
    const [low, high, log] = panel.x;
    const x = log ? low * Math.pow(high / low, share) : low + share * (high - low);
    const found = [];
    let head = "";
    for (const series of panel.s) {
      if (series.k >= 0 && document.body.classList.contains("off-" + series.k)) continue;
      let k = -1;
      if (series.e) {
        k = series.e.findIndex((edge, i) => edge <= x && x < series.e[i + 1]);
        if (k >= 0) head = series.e[k] + " to " + series.e[k + 1];
      } else {
        let nearest = 0.03;
        series.p.forEach((value, i) => {
          const away = Math.abs(place(value, panel.x) - share);
          if (away < nearest) { nearest = away; k = i; }
        });
        if (k >= 0 && !head) head = shown(series.p[k]);
      }
      if (k < 0) continue;
      const error = series.d && series.d[k] !== null ? " ± " + series.d[k] : "";
      found.push([series.n || "value", shown(series.v[k]) + error]);
    }
    return [(panel.l ? panel.l.replace(/\$/g, "") + ": " : "") + head, found];
  }

  function follow(svg, plot) {
    const [left, top, width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
    svg.addEventListener("pointerleave", () => { tip.style.display = "none"; });
    svg.addEventListener("pointermove", (event) => {
      const at = new DOMPoint(event.clientX, event.clientY)
        .matrixTransform(svg.getScreenCTM().inverse());
      const x = (at.x - left) / width, y = (at.y - top) / height;
      tip.style.display = "none";
      for (const panel of plot.axes) {
        const [l, t, r, b] = panel.box;
        if (x < l || x > r || y < t || y > b) continue;
        const [head, found] = rows(panel, (x - l) / (r - l));
        if (!found.length) return;
        tip.replaceChildren();
        const title = document.createElement("strong");
        title.textContent = head;
        tip.append(title);
        for (const [name, value] of found) {
          const line = document.createElement("div");
          line.textContent = name + ": " + value;
          tip.append(line);
        }
        tip.style.display = "block";
        (svg.closest("dialog") || document.body).append(tip);
        const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
        tip.style.left = Math.max(4, Math.min(event.clientX + 14, room)) + "px";
        const below = event.clientY + 18;
        const fits = below + tip.offsetHeight < window.innerHeight;
        tip.style.top = (fits ? below : event.clientY - tip.offsetHeight - 12) + "px";
        return;
      }
    });
  }

  /* A figure fills the window: the wheel makes it larger, dragging moves it, a double click */
  /* puts it back. */
  function enlarge(figure) {
    const picture = figure.querySelector("svg, img");
    const home = picture.parentNode, dialog = document.createElement("dialog");
    const close = document.createElement("button");
    close.textContent = "Close";
    close.addEventListener("click", () => dialog.close());
    dialog.append(close, picture);
    document.body.append(dialog);
    let scale = 1, x = 0, y = 0;
    const draw = () => {
      picture.style.transform = "translate(" + x + "px," + y + "px) scale(" + scale + ")";
    };
    const wheel = (event) => {
      event.preventDefault();
      const box = picture.getBoundingClientRect();
      const next = Math.min(16, Math.max(1, scale * Math.exp(-event.deltaY / 500)));
      const factor = next / scale;
      x += (event.clientX - box.left - box.width / 2) * (1 - factor);
      y += (event.clientY - box.top - box.height / 2) * (1 - factor);
      scale = next;
      if (scale === 1) { x = 0; y = 0; }
      draw();
    };
    const drag = (event) => {
      if (event.buttons !== 1) return;
      x += event.movementX;
      y += event.movementY;
      draw();
    };
    const reset = () => { scale = 1; x = 0; y = 0; draw(); };
    dialog.addEventListener("wheel", wheel, { passive: false });
    dialog.addEventListener("pointermove", drag);
    dialog.addEventListener("dblclick", reset);
    dialog.addEventListener("close", () => {
      picture.style.transform = "";
      home.prepend(picture);
      document.body.append(tip);
      dialog.remove();
    });
    dialog.showModal();
  }

  for (const figure of document.querySelectorAll("figure")) {
    const svg = figure.querySelector("svg"), data = figure.querySelector("script");
    if (svg && data) follow(svg, JSON.parse(data.textContent));
    figure.querySelector("button").addEventListener("click", () => enlarge(figure));
  }
})();
