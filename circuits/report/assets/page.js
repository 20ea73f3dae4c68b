// Draws the plots in the reader's colour scheme and follows the tabs. Nothing is loaded.
(() => {
  "use strict";
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const theme = read("theme");
  const plots = read("plots");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const config = {
    displaylogo: false,
    displayModeBar: "hover",
    responsive: true,
    modeBarButtons: [["toImage", "resetScale2d"]],
    toImageButtonOptions: { format: "svg" },
  };

  // Colour names ("$positive", "$positive/22") become the palette's colours.
  const coloured = (value, palette) => {
    if (typeof value === "string") {
      if (value[0] !== "$") return value;
      const [name, alpha] = value.slice(1).split("/");
      if (!(name in palette)) return value; // a token may be a price
      return alpha ? palette[name] + alpha : palette[name];
    }
    if (Array.isArray(value)) {
      return typeof value[0] === "number" ? value : value.map((one) => coloured(one, palette));
    }
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(
      Object.entries(value).map(([name, one]) => [name, coloured(one, palette)]),
    );
  };

  const draw = (place) => {
    const plot = plots[place.dataset.plot][place.dataset.chosen];
    const palette = dark.matches ? theme.dark : theme.light;
    const { data, layout } = coloured(plot, palette);
    layout.template = coloured(theme.template, palette);
    Plotly.react(place, data, layout, config);
  };
  const places = [...document.querySelectorAll("[data-plot]")];
  places.forEach(draw);
  dark.addEventListener("change", () => places.forEach(draw));

  // A checkpoint chosen in one figure is chosen in all that show it.
  const choose = (name) => {
    document.querySelectorAll("figure").forEach((figure) => {
      const tabs = [...figure.querySelectorAll(".tabs button")];
      if (!tabs.some((tab) => tab.dataset.choice === name)) return;
      tabs.forEach((tab) => tab.setAttribute("aria-selected", tab.dataset.choice === name));
      figure.querySelectorAll("[data-view]").forEach((view) => {
        view.hidden = view.dataset.view !== name;
      });
      const place = figure.querySelector("[data-plot]");
      if (place) {
        place.dataset.chosen = name;
        draw(place);
      }
    });
  };
  document.querySelectorAll(".tabs button").forEach((tab) => {
    tab.addEventListener("click", () => {
      const before = tab.getBoundingClientRect().top;
      choose(tab.dataset.choice);
      window.scrollBy(0, tab.getBoundingClientRect().top - before);
    });
  });

  // The contents follow the reader.
  const links = new Map(
    [...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]),
  );
  const watcher = new IntersectionObserver(
    (seen) => {
      const now = seen.filter((one) => one.isIntersecting).pop();
      if (!now) return;
      links.forEach((link) => link.removeAttribute("aria-current"));
      links.get(now.target.id).setAttribute("aria-current", "true");
    },
    { rootMargin: "-10% 0px -80% 0px" },
  );
  document.querySelectorAll("main > section").forEach((section) => watcher.observe(section));
})();
