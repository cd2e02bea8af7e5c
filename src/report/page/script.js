
(() => {
  "use strict";
  const tip = document.getElementById("tip");
  const hide = () => { tip.hidden = true; };
  const reach = 40;

  for (const figure of document.querySelectorAll("figure.plot")) {
    const svg = figure.querySelector(":scope > svg");
    const groups = [...svg.querySelectorAll("g.series")];
    const series = groups.map((group) => [...group.querySelectorAll(".point")].map((node) => {
      const at = node.getAttribute("transform").match(/[-\d.]+/g).map(Number);
      return { x: at[0], y: at[1], label: node.dataset.label };
    }).sort((one, other) => one.x - other.x));
    const shown = (index) => !groups[index].classList.contains("off");
    let cursor = null;
    let current = null;

    const show = (index, place) => {
      const point = series[index][place];
      current = [index, place];
      if (!cursor) {
        cursor = document.createElementNS(svg.namespaceURI, "circle");
        cursor.setAttribute("class", "cursor");
        cursor.setAttribute("r", "6.5");
        svg.append(cursor);
      }
      cursor.setAttribute("cx", point.x);
      cursor.setAttribute("cy", point.y);
      tip.textContent = point.label;
      tip.hidden = false;
      const on = new DOMPoint(point.x, point.y).matrixTransform(svg.getScreenCTM());
      const box = tip.getBoundingClientRect();
      const left = Math.min(Math.max(8, on.x - box.width / 2), document.documentElement.clientWidth - box.width - 8);
      const above = on.y - box.height - 14;
      tip.style.left = `${left}px`;
      tip.style.top = `${above > 4 ? above : on.y + 16}px`;
    };
    const leave = () => {
      hide();
      if (cursor) cursor.remove();
      cursor = null;
    };
    const nearest = (x, y, wide) => {
      let best = null;
      let least = wide;
      series.forEach((points, index) => {
        if (!shown(index)) return;
        points.forEach((point, place) => {
          const away = Math.hypot(point.x - x, point.y - y);
          if (away < least) { least = away; best = [index, place]; }
        });
      });
      return best;
    };

    svg.addEventListener("pointermove", (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const found = nearest(at.x, at.y, reach);
      if (found) show(...found); else leave();
    });
    svg.addEventListener("pointerleave", leave);
    svg.addEventListener("blur", leave);
    svg.addEventListener("focus", () => {
      if (!svg.matches(":focus-visible")) return;
      const found = current || nearest(0, 0, Infinity);
      if (found) show(...found);
    });
    svg.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { leave(); return; }
      const start = current && shown(current[0]) ? current : nearest(0, 0, Infinity);
      if (!start) return;
      let [index, place] = start;
      const last = series[index].length - 1;
      const x = series[index][place].x;
      const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (event.key === "ArrowLeft") place = Math.max(0, place - 1);
      else if (event.key === "ArrowRight") place = Math.min(last, place + 1);
      else if (event.key === "Home") place = 0;
      else if (event.key === "End") place = last;
      else if (step) {
        const there = series.map((_, other) => other).filter((other) => shown(other) && series[other].length);
        index = there[(there.indexOf(index) + step + there.length) % there.length];
        const away = (point) => Math.abs(point.x - x);
        place = series[index].reduce((best, point, other) => away(point) < away(series[index][best]) ? other : best, 0);
      } else return;
      event.preventDefault();
      show(index, place);
    });

    for (const button of figure.querySelectorAll(".legend button")) {
      button.addEventListener("click", () => {
        const on = button.getAttribute("aria-pressed") === "true";
        button.setAttribute("aria-pressed", String(!on));
        groups[Number(button.dataset.series)].classList.toggle("off", on);
        leave();
      });
    }
  }
  addEventListener("scroll", hide, { passive: true });
})();
