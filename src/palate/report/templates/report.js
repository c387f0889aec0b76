"use strict";
(() => {
  const root = document.documentElement;
  const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const remember = (theme) => {
    try { localStorage.setItem("palate-theme", theme); } catch { /* a file:// page may not store anything */ }
  };
  try { root.dataset.theme = localStorage.getItem("palate-theme") || ""; } catch { /* as above */ }
  if (!root.dataset.theme) delete root.dataset.theme;

  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    remember(root.dataset.theme);
  });

  const figures = JSON.parse(document.getElementById("figure-data").textContent);

  const save = (name, type, content) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  const field = (value) => {
    if (value === null || value === undefined) return "";
    let text = String(value);
    if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = "'" + text;
    return /[",\n\r]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  };

  const csv = (columns) => {
    const names = Object.keys(columns);
    const lines = [names.map(field).join(",")];
    for (let i = 0; i < columns[names[0]].length; i++) lines.push(names.map((name) => field(columns[name][i])).join(","));
    return lines.join("\n") + "\n";
  };

  const standalone = (name) => {
    const svg = document.querySelector(`#${name} svg`).cloneNode(true);
    const box = svg.viewBox.baseVal;
    svg.setAttribute("width", box.width);
    svg.setAttribute("height", box.height);
    const style = getComputedStyle(root);
    return new XMLSerializer().serializeToString(svg).replace(/var\((--[a-z-]+)\)/g, (_, variable) => style.getPropertyValue(variable).trim());
  };

  const SCALE = 3; // pixels of the picture per CSS pixel: sharp in print

  const picture = (name) => {
    const image = new Image();
    image.onload = () => {
      const canvas = document.createElement("canvas");
      canvas.width = SCALE * image.width;
      canvas.height = SCALE * image.height;
      const pen = canvas.getContext("2d");
      pen.fillStyle = getComputedStyle(root).getPropertyValue("--card").trim();
      pen.fillRect(0, 0, canvas.width, canvas.height);
      pen.drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((blob) => save(`${name}.png`, "image/png", blob));
    };
    image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(standalone(name));
  };

  for (const button of document.querySelectorAll("[data-figure]")) {
    button.addEventListener("click", () => {
      const { figure, as } = button.dataset;
      if (as === "svg") save(`${figure}.svg`, "image/svg+xml", standalone(figure));
      if (as === "png") picture(figure);
      if (as === "csv") save(`${figure}.csv`, "text/csv", csv(figures[figure]));
      if (as === "json") save(`${figure}.json`, "application/json", JSON.stringify(figures[figure], null, 1));
    });
  }

  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copy);
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(source);
        button.textContent = "Selected: copy with Ctrl-C";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2500);
    });
  }

  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const inView = new Set();
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) entry.isIntersecting ? inView.add(entry.target.id) : inView.delete(entry.target.id);
    const here = [...links.keys()].find((name) => inView.has(name));
    for (const [name, link] of links) name === here ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
  }, { rootMargin: "-15% 0px -70% 0px" });
  for (const section of document.querySelectorAll("main > section")) watch.observe(section);
})();
