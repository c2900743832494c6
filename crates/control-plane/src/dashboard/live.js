// Keeps the audit log on the page live. Without it the page is the same, only still.
// Every text is set as text, never as markup.
"use strict";
(() => {
  const table = document.querySelector("table[data-tail]");
  const body = document.getElementById("records");
  const live = document.getElementById("live");
  if (!table || !body || !live || table.dataset.tail.includes("cursor=")) return;
  const MAX_ROWS = 500;
  const GOOD = ["allow", "succeeded"], WAIT = ["ask", "unknown"];

  const element = (name, text, className) => {
    const made = document.createElement(name);
    if (text) made.textContent = text;
    if (className) made.className = className;
    return made;
  };
  const cell = (...children) => {
    const made = element("td");
    for (const child of children) if (child) made.append(child);
    return made;
  };
  const code = (text) => text && element("code", text);
  const badge = (word) => {
    if (!word) return null;
    const kind = GOOD.includes(word) ? "good" : WAIT.includes(word) ? "wait" : "bad";
    return element("span", word, "badge " + kind);
  };
  const about = (facts) =>
    element("span", ["thing", "change", "wish", "actions"].map((label) => facts[label]).filter(Boolean).join(" "), "muted");

  const row = (record) => {
    const made = element("tr", "", "new");
    made.dataset.id = record.id;
    const link = element("a");
    link.href = "/records/" + encodeURIComponent(record.id);
    const time = element("time", record.time.slice(0, 19).replace("T", " "));
    time.dateTime = record.time;
    link.append(time);
    made.append(
      cell(link),
      cell(code(record.kind), record.reason && element("span", record.reason, "sub")),
      cell(
        record.actor,
        record.on_behalf_of && element("span", "for " + record.on_behalf_of, "sub"),
        record.claw && record.actor !== "claw:" + record.claw && element("span", "about " + record.claw, "sub"),
      ),
      cell(code(record.action) || about(record.facts || {})),
      cell(code(record.resource)),
      cell(badge(record.decision)),
      cell(badge(record.outcome)),
    );
    return made;
  };

  const source = new EventSource(table.dataset.tail);
  source.onopen = () => { live.textContent = "Live"; };
  source.onerror = () => { live.textContent = "Reconnecting…"; };
  source.onmessage = (message) => {
    const record = JSON.parse(message.data);
    const old = body.querySelector(`tr[data-id="${CSS.escape(record.id)}"]`);
    if (old) old.replaceWith(row(record));
    else body.prepend(row(record));
    while (body.rows.length > MAX_ROWS) body.lastElementChild.remove();
  };
})();
