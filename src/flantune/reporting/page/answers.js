
(() => {
  const browser = document.getElementById("browser");
  const part = (id) => document.getElementById("answers-" + id);
  const about = JSON.parse(part("about").textContent);
  const blocks = document.querySelectorAll("script.answers-rows");
  const parsed = new Map(); // rows of a task, read when they are asked for
  const rowsOf = (number) => {
    if (!parsed.has(number)) parsed.set(number, JSON.parse(blocks[number].textContent));
    return parsed.get(number);
  };
  const HEIGHT = 58; // of a row in the list, as in the style sheet
  const OUTCOMES = {
    "": ["All", () => true],
    won: ["▲ Won", (row) => row.gain > 0],
    lost: ["▼ Lost", (row) => row.gain < 0],
    same: ["Same", (row) => row.gain === 0],
  };
  const state = { task: 0, outcome: "", template: "", sort: "", find: "", marks: "" };
  let found = [], place = 0;

  const options = (select, items) => {
    select.textContent = "";
    for (const [value, text, group] of items) {
      const option = make("option", "", text);
      option.value = value;
      let box = select;
      if (group) {
        box = [...select.querySelectorAll("optgroup")].find((each) => each.label === group);
        if (!box) { box = make("optgroup"); box.label = group; select.append(box); }
      }
      box.append(option);
    }
  };
  const text = (row) => row.text ??=
    [row.row, row.prompt, row.base, row.tuned, ...row.references].join("\n").toLowerCase();

  const filter = () => {
    const rows = rowsOf(state.task), find = state.find.trim().toLowerCase();
    const asked = rows.filter((row) => (state.template === "" || row.template === Number(state.template)) &&
      (!find || text(row).includes(find)));
    const box = part("outcomes");
    for (const button of box.children) {
      const [title, keeps] = OUTCOMES[button.dataset.outcome];
      button.textContent = title + " " + asked.filter(keeps).length.toLocaleString("en");
      button.setAttribute("aria-pressed", String(button.dataset.outcome === state.outcome));
    }
    found = asked.filter(OUTCOMES[state.outcome][1]);
    if (state.sort) found.sort((a, b) => (state.sort === "won" ? b.gain - a.gain : a.gain - b.gain) || a.line - b.line);
    const { kept, total } = about[state.task];
    part("kept").textContent = (kept < total ? kept + " of " + total + " rows, drawn by hash. " : "") +
      "Keys in the list: up and down, Home and End.";
  };

  // The list holds only the rows that can be seen.
  const list = part("list"), space = make("div");
  list.append(space);
  const drawn = new Map();
  const draw = () => {
    space.style.height = found.length * HEIGHT + "px";
    const first = Math.max(0, Math.floor(list.scrollTop / HEIGHT) - 4);
    const last = Math.min(found.length, first + Math.ceil(list.clientHeight / HEIGHT) + 9);
    for (const [number, option] of drawn) {
      if (number < first || number >= last) { option.remove(); drawn.delete(number); }
    }
    for (let number = first; number < last; number++) {
      if (!drawn.has(number)) {
        const row = found[number], option = make("div");
        option.role = "option";
        option.id = "answers-option-" + number;
        option.style.top = number * HEIGHT + "px";
        option.ariaSetSize = found.length;
        option.ariaPosInSet = number + 1;
        const top = make("span", "top", row.row);
        if (row.gain) top.prepend(make("i", row.gain > 0 ? "better" : "worse", row.gain > 0 ? "▲" : "▼"));
        option.append(top, make("span", "end", row.tuned.slice(0, 90) || "(empty)"));
        option.addEventListener("click", () => choose(number));
        space.append(option);
        drawn.set(number, option);
      }
      drawn.get(number).setAttribute("aria-selected", String(number === place));
    }
    if (found.length) list.setAttribute("aria-activedescendant", "answers-option-" + place);
    else list.removeAttribute("aria-activedescendant");
  };
  const redraw = () => { space.textContent = ""; drawn.clear(); draw(); };
  list.addEventListener("scroll", draw, { passive: true });
  window.addEventListener("resize", draw);

  const answer = (where, words, tag, unfinished) => {
    const box = part(where), empty = words.length === 0;
    if (empty) box.textContent = "(empty)"; else showMarked(box, words, tag);
    box.classList.toggle("empty", empty);
    part(where + "-mark").textContent = unfinished ? "cut at the length limit" : "";
  };
  const show = () => {
    part("row").hidden = found.length === 0;
    part("place").textContent = found.length ? (place + 1).toLocaleString("en") + " of " + found.length.toLocaleString("en") : "";
    part("previous").disabled = place === 0;
    part("next").disabled = place + 1 >= found.length;
    if (!found.length) { space.append(make("p", "none", "No such row.")); return; }
    const row = found[place], task = about[state.task];
    const [template, held] = task.templates[row.template];
    part("name").textContent = row.row;
    part("phrasing").textContent = template + (held ? ", held-out phrasing" : "") +
      (row.leak ? ", has text in common with training rows" : "");
    const scores = part("scores");
    scores.textContent = "";
    row.scores.forEach(([base, tuned], number) => {
      const said = make("span", number ? "" : "major");
      const lower = !number && task.lower ? ", lower is better" : "";
      said.append(make("b", "", task.metrics[number] + lower), " " + base + " → " + tuned);
      if (!number && row.gain) said.append(make("span", row.gain > 0 ? "better" : "worse", row.gain > 0 ? " ▲ won" : " ▼ lost"));
      scores.append(said);
    });
    part("prompt").textContent = row.prompt;
    part("prompt").scrollTop = 0;
    const references = part("references");
    references.textContent = "";
    for (const each of row.references) {
      const said = make("div", "text", each);
      said.dir = "auto";
      references.append(said);
    }
    let sides = [[[true, row.base]], [[true, row.tuned]]].map((side) => side.filter(([, each]) => each));
    if (state.marks === "") sides = wordDifferences(row.base, row.tuned);
    if (state.marks === "reference") {
      sides = [row.base, row.tuned].map((each) => wordDifferences(each, row.references[0] ?? "")[0]);
    }
    const cut = row.unfinished ?? [false, false];
    answer("base", sides[0], "del", cut[0]);
    answer("tuned", sides[1], state.marks === "reference" ? "del" : "ins", cut[1]);
    part("link").href = address();
  };

  // A permalink says task, line of the file, and what was filtered.
  const address = () => {
    const said = new URLSearchParams({ task: about[state.task].name });
    if (found.length) said.set("line", found[place].line);
    if (state.template !== "") said.set("template", about[state.task].templates[state.template][0]);
    for (const key of ["outcome", "sort", "find", "marks"]) if (state[key]) said.set(key, state[key]);
    return "#answers?" + said;
  };
  let timer;
  const remember = () => {
    clearTimeout(timer);
    timer = setTimeout(() => { try { history.replaceState(null, "", address()); } catch { /* a file in a sandbox */ } }, 250);
  };
  const into = () => {
    const top = place * HEIGHT;
    if (top < list.scrollTop) list.scrollTop = top;
    if (top + HEIGHT > list.scrollTop + list.clientHeight) list.scrollTop = top + HEIGHT - list.clientHeight;
  };
  const choose = (number, quietly) => {
    place = Math.max(0, Math.min(found.length - 1, number));
    into();
    draw();
    show();
    if (!quietly) remember();
  };
  const changed = (line, quietly) => {
    filter();
    list.scrollTop = 0;
    redraw();
    const number = line === undefined ? 0 : found.findIndex((row) => row.line === line);
    choose(number < 0 ? 0 : number, quietly);
  };
  const templates = () => options(part("template"), [["", "All templates"], ...about[state.task].templates.map(
    ([name, held], number) => [String(number), name, held ? "Held out" : "Trained on"])]);

  options(part("task"), about.map((task, number) => [String(number), task.title, task.group]));
  for (const key of Object.keys(OUTCOMES)) {
    const button = make("button");
    button.type = "button";
    button.dataset.outcome = key;
    button.addEventListener("click", () => { state.outcome = key; changed(); });
    part("outcomes").append(button);
  }
  part("task").addEventListener("change", () => {
    Object.assign(state, { task: Number(part("task").value), template: "" });
    templates();
    changed();
  });
  for (const key of ["template", "sort"]) {
    part(key).addEventListener("change", () => { state[key] = part(key).value; changed(); });
  }
  part("marks").addEventListener("change", () => { state.marks = part("marks").value; show(); remember(); });
  let typing;
  part("find").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => { state.find = part("find").value; changed(); }, 120);
  });
  part("previous").addEventListener("click", () => choose(place - 1));
  part("next").addEventListener("click", () => choose(place + 1));
  list.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor(list.clientHeight / HEIGHT) - 1);
    const to = { ArrowUp: place - 1, ArrowDown: place + 1, PageUp: place - page, PageDown: place + page, Home: 0,
      End: found.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    choose(to);
  });

  const visit = () => {
    if (!location.hash.startsWith("#answers?")) return false;
    const said = new URLSearchParams(location.hash.slice(9));
    const task = about.findIndex((each) => each.name === said.get("task"));
    if (task < 0) return false;
    const template = about[task].templates.findIndex(([name]) => name === said.get("template"));
    const one = (key, known) => known.includes(said.get(key)) ? said.get(key) : "";
    Object.assign(state, {
      task, template: template < 0 ? "" : String(template), outcome: one("outcome", Object.keys(OUTCOMES)),
      sort: one("sort", ["won", "lost"]), marks: one("marks", ["reference", "none"]), find: said.get("find") ?? "",
    });
    templates();
    for (const key of ["task", "template", "sort", "find", "marks"]) part(key).value = String(state[key]);
    changed(Number(said.get("line")), true);
    document.getElementById("answers").scrollIntoView({ behavior: "instant" });
    return true;
  };
  part("no-script").hidden = true;
  browser.hidden = false;
  window.addEventListener("hashchange", visit);
  if (!visit()) { templates(); changed(undefined, true); }
})();
