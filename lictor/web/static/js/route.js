// Where we are: `#/logs/piper?search=x` is { page: "logs", name: "piper", query: { search: "x" } }.
import { signal } from "./ui.js";

export const route = signal(read());

function read() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [page = "", ...rest] = path.split("/");
  let name = rest.join("/");
  try {
    name = decodeURIComponent(name);
  } catch {
    // a hand-written address; it is shown as it is
  }
  return { page: page || "services", name, query: Object.fromEntries(new URLSearchParams(query)) };
}

export function to(page, name, query) {
  const search = new URLSearchParams(query || {}).toString();
  return `#/${page}${name ? `/${encodeURIComponent(name)}` : ""}${search ? `?${search}` : ""}`;
}

export function go(...where) {
  location.hash = to(...where);
}

/** Change the address without a step back in the history (a search that is being typed). */
export function replace(...where) {
  history.replaceState(null, "", to(...where));
}

/** Read the address again. */
export function look() {
  route.value = read();
}

addEventListener("hashchange", () => {
  if (location.hash.startsWith("#link=")) location.reload(); // a one-time link, in a page that is open
  else look();
});
