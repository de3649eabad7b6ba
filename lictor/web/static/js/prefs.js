// What this browser remembers: theme, pinned services, sorting. Nothing of it leaves the browser.
import { effect, signal } from "./ui.js";

export const THEMES = ["auto", "light", "dark", "night"];

function kept(name, otherwise) {
  let value = otherwise;
  try {
    value = JSON.parse(localStorage.getItem(`lictor.${name}`)) ?? otherwise;
  } catch {
    // a value that an older version left
  }
  const held = signal(value);
  effect(() => localStorage.setItem(`lictor.${name}`, JSON.stringify(held.value)));
  return held;
}

export const theme = kept("theme", "auto");
export const pinned = kept("pinned", []);
export const sorting = kept("sorting", { by: "name", down: false });
export const follows = kept("follow", true);

effect(() => {
  document.documentElement.dataset.theme = THEMES.includes(theme.value) ? theme.value : "auto";
});

export function pin(name) {
  pinned.value = pinned.value.includes(name)
    ? pinned.value.filter((other) => other !== name)
    : [...pinned.value, name];
}
