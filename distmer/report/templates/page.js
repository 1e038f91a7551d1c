"use strict";
// Click on the head of a column: sort by it; click again: the other way round.
const value = (row, column) => { const cell = row.cells[column]; const text = cell.dataset.v ?? cell.textContent.trim(); const number = parseFloat(text); return Number.isNaN(number) ? text : number; };
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = table.tHead.rows[0].cells;
  for (const head of heads) {
    head.tabIndex = 0;
    const sort = () => {
      const down = head.getAttribute("aria-sort") === "ascending", column = head.cellIndex, body = table.tBodies[0];
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const order = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;
      const rows = [...body.rows].map(row => [value(row, column), row]).sort((a, b) => order(a[0], b[0]) * (down ? -1 : 1));
      body.append(...rows.map(pair => pair[1]));
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
  }
}
// A field or a list that filters the rows of a table: by any text, or by a value in the row's data.
for (const tools of document.querySelectorAll(".tools[data-table]")) {
  const rows = [...document.getElementById(tools.dataset.table).tBodies[0].rows], fields = [...tools.querySelectorAll("input, select")];
  const count = tools.querySelector("output");
  const filter = () => {
    let shown = 0;
    for (const row of rows) {
      row.hidden = !fields.every(field => !field.value || (field.name ? JSON.parse(row.dataset[field.name]).includes(field.value) : row.textContent.toLowerCase().includes(field.value.toLowerCase())));
      shown += !row.hidden;
    }
    if (count) count.textContent = `${shown} of ${rows.length}`;
  };
  for (const field of fields) field.addEventListener("input", filter);
  filter();
}
// A button copies the text below it; where the browser does not allow that, it selects it.
for (const button of document.querySelectorAll("button[data-copy]")) button.addEventListener("click", async () => {
  const source = document.getElementById(button.dataset.copy);
  try { await navigator.clipboard.writeText(source.textContent); button.textContent = "copied"; }
  catch { getSelection().selectAllChildren(source); button.textContent = "selected"; }
});
// The index: choose runs, and see which others can be compared with them.
const command = document.getElementById("command");
if (command) {
  const boxes = [...document.querySelectorAll("input[type=checkbox][data-group]")];
  const choose = () => {
    const chosen = boxes.filter(box => box.checked), group = chosen[0]?.dataset.group;
    for (const box of boxes) { const off = group !== undefined && box.dataset.group !== group; box.disabled = off; box.closest("tr").classList.toggle("off", off); }
    document.getElementById("command-note").textContent = new Set(chosen.map(box => box.dataset.letter)).size > 1 ? "These have not the same clips: they are compared on those that they share." : "";
    command.textContent = chosen.length > 1 ? "distmer compare " + chosen.map(box => box.value).join(" ") : chosen.length ? "choose one more" : "choose two rows or more";
  };
  for (const box of boxes) box.addEventListener("change", choose);
  choose();
}
addEventListener("beforeprint", () => { for (const details of document.querySelectorAll("details")) details.open = true; });
