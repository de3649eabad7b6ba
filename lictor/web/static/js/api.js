// Talks to the agent: requests, problems (RFC 9457), and streams of server-sent events.
// Every path is relative to the page, so that the dashboard works below any base path.
import { signal } from "./ui.js";

export const root = new URL(".", location.href.split("#")[0]);

/** Becomes true when the session is over and somebody has to sign in. */
export const signedOut = signal(false);

/**
 * What the agent answered instead of what was asked for. `code` is stable, `message` and `hint` are
 * English; `parts.js` tells them in the reader's language by `reasons` and `hintReasons`.
 */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `HTTP ${status}`);
    this.status = status;
    this.code = body.code || `http.${status}`;
    this.hint = body.hint || "";
    this.reasons = body.reasons || [];
    this.hintReasons = body.hint_reasons || [];
    this.retryAfter = body.retry_after;
  }
}

export function url(path, query) {
  const target = new URL(path.replace(/^\//, ""), root);
  for (const [name, value] of Object.entries(query || {})) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null && one !== "") target.searchParams.append(name, one);
    }
  }
  return target;
}

async function once(method, path, { query, body, signal: abort } = {}) {
  const headers = { Accept: "application/json", "X-Requested-With": "lictor" };
  if (method !== "GET") headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(url(path, query), {
      method,
      headers,
      body: method === "GET" ? undefined : JSON.stringify(body ?? {}),
      credentials: "same-origin",
      cache: "no-store",
      signal: abort,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: "The agent does not answer.", code: "agent.away" });
  }
  const text = await answer.text();
  let data = null;
  try {
    data = text ? JSON.parse(text) : null;
  } catch {
    data = { detail: text.slice(0, 200) };
  }
  if (!answer.ok) throw new Problem(answer.status, data || {});
  return data;
}

let renewing = null;

/** A new access token for an old one; one at a time, however many requests want it. */
export function renew() {
  renewing ??= once("POST", "admin/auth/refresh").finally(() => {
    renewing = null;
  });
  return renewing;
}

/** One request. A session that has just run out is renewed once; else `signedOut` is set. */
export async function api(method, path, options = {}) {
  try {
    return await once(method, path, options);
  } catch (problem) {
    if (problem.status !== 401 || path.startsWith("admin/auth/")) throw problem;
    try {
      await renew();
    } catch (failed) {
      if (failed.status === 401 || failed.status === 403) signedOut.value = true;
      throw problem;
    }
    return once(method, path, options);
  }
}

export const get = (path, query, options) => api("GET", path, { query, ...options });
export const post = (path, body) => api("POST", path, { body });

const SLOWEST = 15_000; // milliseconds between two tries

/**
 * A stream that comes back by itself.
 *
 * `on` maps names of events to functions of their data. `state` is called with "live" or
 * "reconnecting". While the page is hidden the stream is closed: a browser gives one host six
 * connections for all of its tabs. Returns a function that ends it.
 */
export function stream(path, { on, state = () => {}, query }) {
  let source = null;
  let timer = 0;
  let wait = 500;
  let ended = false;

  const open = () => {
    clearTimeout(timer);
    if (ended || source || document.hidden) return;
    source = new EventSource(url(path, typeof query === "function" ? query() : query));
    source.onopen = () => {
      wait = 500;
      state("live");
    };
    for (const [name, hear] of Object.entries(on)) {
      source.addEventListener(name, (event) => hear(JSON.parse(event.data), event.lastEventId));
    }
    source.onerror = () => {
      state("reconnecting");
      if (source?.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      close();
      // Refused, not cut: perhaps the session ran out. `me` renews it or says that it is over.
      get("admin/auth/me").catch((problem) => {
        if (problem.status === 401) renew().catch((no) => no.status === 401 && (signedOut.value = true));
      });
      timer = setTimeout(open, wait);
      wait = Math.min(SLOWEST, wait * 2);
    };
  };
  const close = () => {
    source?.close();
    source = null;
  };
  const look = () => {
    if (document.hidden) {
      timer = setTimeout(close, 30_000);
    } else {
      open();
    }
  };
  document.addEventListener("visibilitychange", look);
  open();
  return () => {
    ended = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", look);
    close();
  };
}
