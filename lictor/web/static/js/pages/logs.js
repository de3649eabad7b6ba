// A log: a window over many lines. Only the lines in sight are in the page, so 100,000 of them scroll
// as ten do. It follows the end only while one looks at the end; while one reads, it stays put.
import { classes, html, useEffect, useLayoutEffect, useRef, useState } from "../ui.js";
import { get, stream } from "../api.js";
import { size, t } from "../i18n.js";
import { may } from "../state.js";
import { Empty, Trouble, When } from "../parts.js";
import { go, replace, route, to } from "../route.js";
import { line, plain } from "../ansi.js";
import { listen } from "../keys.js";
import { useAnswer } from "./service.js";

const HEIGHT = 20; // pixels of one line; the same in pages.css
const PAGE = 1_000; // lines of one request
const MOST = 200_000; // lines that are kept
const SPARE = 30; // lines above and below what is in sight

export function Logs({ name }) {
  return name ? html`<${OneLog} key=${name} name=${name} />` : html`<${LogList} />`;
}

function LogList() {
  const [answer, problem, again] = useAnswer("logs", () => get("admin/logs"));
  if (problem) return html`<${Trouble} problem=${problem} again=${again} />`;
  const rows = answer?.logs || [];
  return html`<section>
    <h1>${t("nav.logs")}</h1>
    ${answer && !rows.length && html`<${Empty} title=${t("logs.none")}>${t("logs.none_text")}</${Empty}>`}
    ${rows.length > 0 &&
    html`<table class="plain">
      <thead>
        <tr><th scope="col">${t("column.name")}</th><th scope="col">${t("column.size")}</th><th scope="col">${t("column.changed")}</th></tr>
      </thead>
      <tbody>
        ${rows.map(
          (row) => html`<tr>
            <th scope="row"><a href=${to("logs", row.name)}>${row.name}</a><span class="about">${row.path}</span></th>
            <td>${row.exists ? size(row.size) : t("logs.not_there")}</td>
            <td><${When} at=${row.modified} /></td>
          </tr>`,
        )}
      </tbody>
    </table>`}
  </section>`;
}

/** The lines of one log and what is known of them; it tells its page when something changed. */
class Book {
  constructor(name, changed) {
    this.name = name;
    this.changed = changed;
    this.lines = [];
    this.first = 0; // the number (from 1) of lines[0] in the log
    this.search = "";
    this.total = 0;
    this.more = false;
    this.empty = null;
    this.problem = null;
    this.busy = false;
    this.round = 0;
    this.end = () => {};
  }

  path() {
    return `admin/logs/${encodeURIComponent(this.name)}`;
  }

  async open(search, around) {
    const round = ++this.round;
    this.search = search;
    this.busy = true;
    this.end();
    this.changed("busy");
    try {
      const page = await get(this.path(), { lines: PAGE, offset: 0, search });
      if (round !== this.round) return;
      this.take(page);
      while (around && this.first > around && this.more && this.lines.length < MOST) {
        const before = await get(this.path(), { lines: 10_000, offset: this.lines.length, search });
        if (round !== this.round || !before.lines.length) break;
        this.put(before);
      }
      this.problem = null;
      this.follow(page.position);
    } catch (problem) {
      if (round === this.round) this.problem = problem;
    }
    this.busy = false;
    this.changed("opened");
  }

  take(page) {
    this.lines = page.lines;
    this.total = page.total_lines;
    this.first = this.total - page.lines.length + 1;
    this.more = page.more;
    this.empty = page.empty;
  }

  put(page) {
    this.lines = page.lines.concat(this.lines);
    this.first -= page.lines.length;
    this.more = page.more && page.lines.length > 0;
  }

  async older() {
    if (this.busy || !this.more || this.lines.length >= MOST) return;
    this.busy = true;
    const round = this.round;
    try {
      const page = await get(this.path(), { lines: PAGE, offset: this.lines.length, search: this.search });
      if (round === this.round) {
        this.put(page);
        this.changed("older", page.lines.length);
      }
    } catch (problem) {
      this.problem = problem;
      this.changed("problem");
    }
    this.busy = false;
  }

  follow(position) {
    let mark = position;
    let waiting = [];
    const flush = () => {
      const fresh = waiting;
      waiting = [];
      this.lines = this.lines.concat(fresh);
      this.total += fresh.length;
      this.empty = null;
      let lost = 0;
      if (this.lines.length > MOST) {
        lost = this.lines.length - MOST;
        this.lines = this.lines.slice(lost);
        this.first += lost;
        this.more = true;
      }
      this.changed("fresh", fresh.length, lost);
    };
    const add = (text) => {
      if (!waiting.length) setTimeout(flush, 80);
      waiting.push(text);
    };
    this.end = stream(`admin/logs/stream/${encodeURIComponent(this.name)}`, {
      query: () => ({ search: this.search, from: mark }),
      on: {
        line: (data, id) => {
          mark = id || mark;
          add(data.line);
        },
        dropped: (data) => add(t("logs.dropped", data)),
      },
    });
  }
}

function OneLog({ name }) {
  const query = route.value.query;
  const wanted = Number(query.line) || 0;
  const box = useRef(null);
  const book = useRef(null);
  const seen = useRef({ pinned: !wanted, top: 0 });
  const [, draw] = useState(0);
  const [unread, setUnread] = useState(0);
  const [search, setSearch] = useState(query.search || "");
  const field = useRef(null);
  const redraw = () => draw((count) => count + 1);

  if (!book.current) {
    book.current = new Book(name, (what, count = 0, lost = 0) => {
      const view = box.current;
      if (what === "older" && view) seen.current.shift = count * HEIGHT;
      if (what === "fresh" && !seen.current.pinned) {
        if (lost) seen.current.shift = -lost * HEIGHT;
        setUnread((now) => now + count);
      }
      if (what === "opened") {
        setUnread(0);
        seen.current.pinned = !wanted || Boolean(book.current.search);
        if (!seen.current.pinned) seen.current.jump = Math.max(0, (wanted - book.current.first - 5) * HEIGHT);
      }
      redraw();
    });
  }

  useEffect(() => {
    book.current.open(query.search || "", wanted);
    return () => book.current.end();
  }, []);

  useEffect(() => {
    const size = new ResizeObserver(redraw);
    if (box.current) size.observe(box.current);
    return () => size.disconnect();
  }, [box.current]);

  const toEnd = () => {
    seen.current.pinned = true;
    setUnread(0);
    redraw();
  };
  const toStart = () => {
    seen.current.pinned = false;
    if (box.current) box.current.scrollTop = 0;
  };
  useEffect(() => listen({ "/": () => field.current?.focus(), G: toEnd, g: toStart }), []);

  // After the nodes are there: keep the place where one reads, or the end.
  useLayoutEffect(() => {
    const view = box.current;
    if (!view) return;
    const at = seen.current;
    if (at.jump !== undefined) {
      view.scrollTop = at.jump;
      at.jump = undefined;
    } else if (at.pinned) {
      view.scrollTop = view.scrollHeight;
    } else if (at.shift) {
      view.scrollTop += at.shift;
    }
    at.shift = 0;
  });

  const onScroll = () => {
    const view = box.current;
    const atEnd = view.scrollHeight - view.scrollTop - view.clientHeight < HEIGHT * 1.5;
    if (atEnd !== seen.current.pinned) {
      seen.current.pinned = atEnd;
      if (atEnd) setUnread(0);
    }
    if (view.scrollTop < HEIGHT * 100) book.current.older();
    const row = Math.floor(view.scrollTop / HEIGHT / (SPARE / 2));
    if (row !== seen.current.top) {
      seen.current.top = row;
      redraw();
    }
  };

  const timer = useRef(0);
  const find = (text) => {
    setSearch(text);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      replace("logs", name, text ? { search: text } : {});
      book.current.open(text, 0);
    }, 250);
  };

  const { lines, first, problem, empty, busy } = book.current;
  const view = box.current;
  const height = view?.clientHeight || 600;
  const top = seen.current.pinned ? Math.max(0, lines.length * HEIGHT - height) : view?.scrollTop || 0;
  const from = Math.max(0, Math.floor(top / HEIGHT) - SPARE);
  const until = Math.min(lines.length, Math.ceil((top + height) / HEIGHT) + SPARE);

  return html`<section class="log-page">
    <div class="tools">
      <h1><a href="#/logs">${t("nav.logs")}</a> / ${name}</h1>
      <input
        ref=${field}
        type="search"
        value=${search}
        placeholder=${t("logs.search")}
        aria-label=${t("logs.search")}
        onInput=${(event) => find(event.target.value)}
        onKeyDown=${(event) => event.key === "Escape" && (find(""), event.target.blur())}
      />
      <span class="quiet count" role="status">
        ${busy ? t("state.loading") : t(book.current.search ? "logs.found" : "logs.lines", { count: number(book.current.total) })}
      </span>
      <button onClick=${() => download(book.current)} disabled=${!lines.length}>${t("act.download")}</button>
      ${!name.includes(":") && may("services_list") && html`<a class="act" href=${to("service", name)}>${t("act.to_service")}</a>`}
    </div>
    ${problem && html`<${Trouble} problem=${problem} again=${() => book.current.open(search, 0)} />`}
    ${!problem && !lines.length && !busy && html`<${Empty} glyph="≡" title=${t("logs.empty")}>${t(`logs.why_${empty || "empty"}`)}</${Empty}>`}
    <div
      class=${classes("log", { hidden: problem || !lines.length })}
      ref=${box}
      onScroll=${onScroll}
      tabindex="0"
      role="log"
      aria-live="off"
      aria-label=${t("logs.of", { name })}
    >
      <div class="log-space" style=${{ height: `${lines.length * HEIGHT}px` }}>
        <div class="log-sight" style=${{ transform: `translateY(${from * HEIGHT}px)` }}>
          ${lines.slice(from, until).map((text, index) => {
            const at = first + from + index;
            return html`<div class=${classes("log-line", { wanted: at === wanted && !book.current.search })} key=${at}>
              ${book.current.search
                ? html`<span class="no"></span>`
                : html`<a class="no" href=${to("logs", name, { line: at })} aria-label=${t("logs.link_to", { line: at })} tabindex="-1">${at}</a>`}
              <span class="text">${line(text, book.current.search)}</span>
            </div>`;
          })}
        </div>
      </div>
    </div>
    ${!seen.current.pinned &&
    lines.length > 0 &&
    html`<button class="to-end" onClick=${toEnd} aria-live="polite">
      ${unread ? t("logs.unread", { count: number(unread) }) : t("logs.to_end")} ↓
    </button>`}
  </section>`;
}

const number = (value) => value.toLocaleString(document.documentElement.lang);

/** What is loaded and matches, as a text file. */
function download(book) {
  const text = `${book.lines.map(plain).join("\n")}\n`;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  link.download = `${book.name.replace(/[^\w.@-]/g, "_")}.log`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
