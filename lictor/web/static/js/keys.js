// The keyboard: one listener, one table of keys, which the help shows. Never while somebody types.
import { signal } from "./ui.js";

export const helpOpen = signal(false);
const tables = [];

function typing(target) {
  return target.closest?.("input, textarea, select, [contenteditable], dialog") !== null;
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  if (event.key === "?") {
    helpOpen.value = true;
    event.preventDefault();
    return;
  }
  for (const table of [...tables].reverse()) {
    const act = table[event.key];
    if (act && act(event) !== false) {
      event.preventDefault();
      return;
    }
  }
});

/** Listen for these keys until the returned function is called. */
export function listen(table) {
  tables.push(table);
  return () => tables.splice(tables.indexOf(table), 1);
}
