"use strict";
const make = (tag, name, text) => {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
};

(() => {
  const root = document.documentElement;

  // Light and dark: the reader's system decides until the button is pressed.
  const theme = document.getElementById("theme");
  const dark = () => root.dataset.theme === "dark" ||
    (!root.dataset.theme && window.matchMedia("(prefers-color-scheme: dark)").matches);
  const name = () => { theme.textContent = dark() ? "Light page" : "Dark page"; };
  theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; name(); });
  theme.hidden = false;
  name();

  // Where the reader is: the last part whose beginning is above the upper third of the window.
  const links = [...document.querySelectorAll(".rail a")];
  const parts = links.map((link) => document.getElementById(link.hash.slice(1)));
  let waiting = false;
  const mark = () => {
    waiting = false;
    const line = window.innerHeight / 3;
    const last = window.innerHeight + window.scrollY >= document.body.scrollHeight - 4;
    let here = 0;
    parts.forEach((part, place) => { if (part && part.getBoundingClientRect().top < line) here = place; });
    if (last) here = parts.length - 1;
    const strip = links[here].closest("ul");
    if (strip.scrollWidth > strip.clientWidth) strip.scrollLeft = links[here].offsetLeft - strip.clientWidth / 2;
    links.forEach((link, place) => {
      if (place === here) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
    });
  };
  const later = () => { if (!waiting) { waiting = true; requestAnimationFrame(mark); } };
  window.addEventListener("scroll", later, { passive: true });
  window.addEventListener("resize", later);
  mark();

  // Sortable tables: what is not a number comes last, ties keep their order.
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = make("button", "", head.textContent.trim());
      button.type = "button";
      button.title = "Sort by this column";
      head.textContent = "";
      head.append(button);
      button.addEventListener("click", () => {
        const numbers = head.classList.contains("n");
        const start = numbers ? "descending" : "ascending";
        const was = head.getAttribute("aria-sort");
        const now = was === null ? start : was === "ascending" ? "descending" : "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", now);
        const sign = now === "ascending" ? 1 : -1;
        const value = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent.trim();
        const rows = [...table.tBodies[0].rows].sort((a, b) => {
          const [x, y] = [value(a), value(b)];
          if (!numbers) return sign * x.localeCompare(y, "en");
          if (x === "" || y === "") return (x === "") - (y === "");
          return sign * (Number(x) - Number(y));
        });
        table.tBodies[0].append(...rows);
      });
    });
  }
})();
