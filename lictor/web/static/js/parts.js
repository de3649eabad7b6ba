// Small pieces that several pages show: a state, a sparkline, a bar, a moment, an empty page, a dialog.
import { html, useEffect, useRef } from "./ui.js";
import { clock, fixed, t, utc, why } from "./i18n.js";
import { kindOf } from "./state.js";

const GLYPHS = {
  ready: "●",
  starting: "◐",
  queued: "◌",
  unhealthy: "▲",
  stopping: "◑",
  stopped: "○",
  backoff: "↻",
  failed: "✖",
  blocked: "⊘",
  unknown: "?",
  passing: "●",
  warning: "▲",
  critical: "✖",
  maintenance: "◇",
};
const HEALTH = { passing: "ready", warning: "busy", critical: "trouble", maintenance: "off" };

/** Glyph, word and colour: never colour alone. */
export function Phase({ phase }) {
  return html`<span class="state k-${kindOf(phase)}"
    ><span class="glyph" aria-hidden="true">${GLYPHS[phase] || "?"}</span>${"\u00a0"}${t(`phase.${phase}`)}</span
  >`;
}

export function Health({ health, count }) {
  if (!health) return html`<span class="quiet">–</span>`;
  return html`<span class="state k-${HEALTH[health] || "off"}"
    ><span class="glyph" aria-hidden="true">${GLYPHS[health] || "?"}</span> ${count ?? ""}${
      count === undefined ? "" : " "
    }${t(`health.${health}`)}</span
  >`;
}

/** The last 15 minutes as a line. Ornament to the number beside it, so hidden from screen readers. */
export function Spark({ values, most }) {
  const seen = (values || []).filter((value) => value !== null && value !== undefined);
  if (seen.length < 4) return html`<svg class="spark" viewBox="0 0 60 16" aria-hidden="true"></svg>`;
  const top = Math.max(most || 0, ...seen) * 1.1 || 1;
  const step = 60 / (60 - 1);
  const start = 60 - values.length;
  let path = "";
  let pen = false;
  values.forEach((value, index) => {
    if (value === null || value === undefined) {
      pen = false;
      return;
    }
    const y = 15 - (value / top) * 14;
    path += `${pen ? "L" : "M"}${((start + index) * step).toFixed(1)} ${y.toFixed(1)}`;
    pen = true;
  });
  return html`<svg class="spark" viewBox="0 0 60 16" preserveAspectRatio="none" aria-hidden="true">
    <path class="base" d="M0 15H60" /><path d=${path} />
  </svg>`;
}

/** How full something is; `parts` are [{ value, label, kind }] of `total`. */
export function Bar({ parts, total, label }) {
  let at = 0;
  const shown = parts.map((part, index) => {
    const width = total > 0 ? Math.max(0, Math.min(100 - at, (100 * part.value) / total)) : 0;
    const piece = html`<rect class="part p-${part.kind || index % 6}" x=${at} y="0" width=${width} height="10">
      <title>${part.label}</title>
    </rect>`;
    at += width;
    return piece;
  });
  return html`<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label=${label}>
    <rect class="ground" x="0" y="0" width="100" height="10" />${shown}
  </svg>`;
}

export function When({ at }) {
  return at ? html`<time datetime=${at} title=${utc(at)}>${clock(at)}</time>` : html`<span class="quiet">–</span>`;
}

const ICONS = {
  start: "M5 3l8 5-8 5z",
  stop: "M4 4h8v8H4z",
  restart: "M12.5 6.5A5 5 0 1 0 13 9M12.8 3v3.7H9",
  log: "M3 4h10M3 8h10M3 12h6",
};

export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 16 16" aria-hidden="true"><path d=${ICONS[name]} /></svg>`;
}

/** A text in which `words between backticks` are code. */
export function Rich({ text }) {
  return text.split("`").map((part, index) => (index % 2 ? html`<code>${part}</code>` : part));
}

/** A page, or a part of one, that has nothing to show: what is so, and the next step. */
export function Empty({ glyph = "○", title, children }) {
  return html`<div class="empty">
    <div class="empty-glyph" aria-hidden="true">${glyph}</div>
    <h2>${title}</h2>
    ${children && html`<p>${typeof children === "string" ? html`<${Rich} text=${children} />` : children}</p>`}
  </div>`;
}

const KNOWN = { 0: "away", 401: "signed_out", 403: "forbidden", 404: "missing", 429: "busy", 503: "unavailable" };

/** A problem that the agent answered with, as a page. */
export function Trouble({ problem, again }) {
  const kind = KNOWN[problem.status] || "failed";
  return html`<div class="empty" role="alert">
    <div class="empty-glyph" aria-hidden="true">${kind === "forbidden" ? "⊘" : "✖"}</div>
    <h2>${t(`problem.${kind}`)}</h2>
    <p><${Rich} text=${sentence(problem)} /></p>
    ${advice(problem) && html`<p class="quiet">${advice(problem)}</p>`}
    ${again && html`<button onClick=${again}>${t("act.again")}</button>`}
  </div>`;
}

/** The one sentence of a problem: ours for what the dashboard knows, else the agent's. */
export function sentence(problem) {
  if (problem.status === 0) return t("problem.away_text");
  if (problem.status === 403) return t("problem.forbidden_text");
  return problem.reasons?.length ? why({ reasons: problem.reasons }) : fixed(problem.code) ?? problem.message;
}

/** What a problem advises, in the reader's language; "" if it does not. */
export function advice(problem) {
  return problem.hintReasons?.length ? why({ reasons: problem.hintReasons }) : problem.hint;
}

/** A dialog that closes with Escape, gives the focus back, and closes when one clicks beside it. */
export function Dialog({ title, onClose, children, wide }) {
  const box = useRef(null);
  useEffect(() => {
    const before = document.activeElement;
    box.current.showModal();
    return () => before?.focus?.({ preventScroll: true });
  }, []);
  return html`<dialog
    ref=${box}
    class=${wide ? "wide" : ""}
    aria-labelledby="dialog-title"
    onCancel=${(event) => {
      event.preventDefault();
      onClose();
    }}
    onClick=${(event) => event.target === box.current && onClose()}
  >
    <div class="dialog-body">
      <h2 id="dialog-title">${title}</h2>
      ${children}
    </div>
  </dialog>`;
}

export function Copy({ text }) {
  const copy = async (event) => {
    const button = event.currentTarget;
    await navigator.clipboard.writeText(text).catch(() => {});
    button.dataset.done = "yes";
    setTimeout(() => delete button.dataset.done, 1_200);
  };
  return html`<button class="quiet-button copy" onClick=${copy} title=${t("act.copy")} aria-label=${`${t("act.copy")}: ${text}`}>
    <svg viewBox="0 0 16 16" aria-hidden="true"><path d="M5.5 5.5V2.5h8v8h-3M2.5 5.5h8v8h-8z" /></svg>
  </button>`;
}

/** The inside of a dialog that shows a secret that was made up: this once, with a way to copy it. */
export function ShownOnce({ text, secret, onClose, children }) {
  return html`<p>${text}</p>
    <p class="secret mono">${secret} <${Copy} text=${secret} /></p>
    ${children}
    <div class="dialog-actions"><button class="primary" autofocus onClick=${onClose}>${t("act.close")}</button></div>`;
}
