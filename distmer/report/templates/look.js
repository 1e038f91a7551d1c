"use strict";
const form = document.querySelector("form"), rows = [...document.querySelectorAll("article")];
const main = document.querySelector("main"), shown = document.querySelector("output");
function filter() {
  const wanted = new FormData(form), text = wanted.get("text").trim().toLowerCase(), trouble = wanted.get("trouble");
  let count = 0;
  for (const row of rows) {
    const own = row.dataset;
    const fits = ["set", "subject", "label"].every((name) => !wanted.get(name) || own[name] === wanted.get(name))
      && (!trouble || (trouble === "any" ? own.trouble : own.trouble.split(" ").includes(trouble)))
      && own.text.includes(text);
    row.hidden = !fits;
    count += fits ? 1 : 0;
  }
  shown.textContent = `${count} of ${rows.length} clips`;
  document.querySelector(".nothing").hidden = count > 0;
  main.classList.toggle("plain", !wanted.get("dots"));
}
form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
filter();
