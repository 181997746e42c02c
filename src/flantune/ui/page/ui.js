"use strict";
(() => {
  // Parts that change by themselves: the server sends them whole, escaped by the same templates as the page.
  const live = document.getElementById("live");
  if (live) {
    const source = new EventSource(live.dataset.events);
    source.addEventListener("message", (event) => {
      const unfolded = live.querySelector("details[open]") !== null;
      live.innerHTML = JSON.parse(event.data);
      if (unfolded) live.querySelectorAll("details").forEach((each) => { each.open = true; });
    });
    window.addEventListener("pagehide", () => source.close());
  }

  const form = document.getElementById("play");
  if (!form) return;
  const field = (name) => form.elements[name];
  const run = form.dataset.run;
  const told = document.getElementById("said"), expected = document.getElementById("expected");
  let shown = null; // the row that was fetched, in all templates

  const prompt = () => shown?.prompts.find((each) => each.template === field("template").value);
  const fill = () => {
    const chosen = prompt();
    if (!chosen) return;
    field("text").value = chosen.input ?? "";
    expected.textContent = chosen.target === undefined ? chosen.error : "Expected: " + chosen.target;
    expected.hidden = false;
  };
  const fetchRow = async () => {
    const task = field("task").value;
    for (const each of form.querySelectorAll(".of-task")) each.hidden = !task;
    if (!task) { shown = null; expected.hidden = true; return; }
    const asked = new URLSearchParams({ name: run, task, row: String(Math.max(0, field("row").valueAsNumber || 0)) });
    const answer = await fetch("/prompts?" + asked, { headers: { Accept: "application/json" } });
    const got = await answer.json();
    if (!answer.ok) { told.textContent = got.error; return; }
    told.textContent = "";
    const before = field("template").value;
    shown = got;
    field("row").max = shown.rows - 1;
    field("most").value = shown.max_new_tokens;
    field("template").replaceChildren(...shown.prompts.map((each) => {
      const option = new Option(each.template + (each.held_out ? " (held out)" : ""), each.template);
      option.selected = each.template === before;
      return option;
    }));
    fill();
  };
  field("run").addEventListener("change", () => {
    location.href = "/play?" + new URLSearchParams({ name: field("run").value });
  });
  field("task").addEventListener("change", () => { field("row").value = 0; fetchRow(); });
  field("row").addEventListener("change", fetchRow);
  field("template").addEventListener("change", fill);

  const box = (who) => document.getElementById(who);
  const said = {};
  const put = (who, text, finished) => {
    said[who] = { text, finished };
    box(who).textContent = text || (finished === null ? "" : "(empty)");
    box(who).classList.toggle("writing", finished === null);
    box(who).classList.toggle("empty", finished !== null && !text);
    const name = box(who + "-name");
    name.textContent = who === "base" ? "Base" : "Tuned";
    if (finished === false) name.append(Object.assign(document.createElement("span"), { textContent: "cut at the limit" }));
    if (said.base && said.tuned && said.base.finished !== null && said.tuned.finished !== null) {
      const sides = wordDifferences(said.base.text, said.tuned.text);
      if (said.base.text) showMarked(box("base"), sides[0], "del");
      if (said.tuned.text) showMarked(box("tuned"), sides[1], "ins");
    }
  };
  const take = (piece) => {
    if (piece.error) { told.textContent = piece.error; return; }
    if (piece.finished === null && !piece.text) told.textContent = "The " + piece.who + " model is asked …";
    put(piece.who, piece.text, piece.finished);
  };
  const lines = async (body) => {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      parts.filter(Boolean).forEach((line) => take(JSON.parse(line)));
    }
  };

  let running = null;
  field("stop").addEventListener("click", () => running?.abort());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running) return;
    running = new AbortController();
    form.querySelector("[type=submit]").disabled = true;
    field("stop").hidden = false;
    for (const who of ["base", "tuned"]) { delete said[who]; box(who).textContent = ""; box(who).classList.remove("empty"); }
    told.textContent = "The models are loaded …";
    const chosen = prompt();
    try {
      const answer = await fetch("/ask", {
        method: "POST",
        signal: running.signal,
        headers: { "Content-Type": "application/json", Accept: "application/json" },
        body: JSON.stringify({
          name: run,
          text: field("text").value,
          max_new_tokens: field("most").valueAsNumber,
          stream: field("stream").checked,
          prompt: chosen && { task: shown.task, split: shown.split, row: shown.row, template: chosen.template },
        }),
      });
      if (!answer.ok) told.textContent = (await answer.json()).error;
      else {
        if (field("stream").checked) await lines(answer.body); else (await answer.json()).forEach(take);
        if (said.tuned?.finished !== undefined && said.tuned.finished !== null) told.textContent = "";
      }
    } catch (error) {
      told.textContent = error.name === "AbortError" ? "Stopped." : "The server does not answer.";
    } finally {
      for (const who of ["base", "tuned"]) box(who).classList.remove("writing");
      form.querySelector("[type=submit]").disabled = false;
      field("stop").hidden = true;
      running = null;
    }
  });
  field("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
})();
