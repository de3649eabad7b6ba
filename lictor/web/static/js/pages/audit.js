// The audit log: who did what, from where, and what came of it. Filtered here, exported as it is filtered.
import { classes, html, useEffect, useRef, useState } from "../ui.js";
import { get, url } from "../api.js";
import { t } from "../i18n.js";
import { Empty, Trouble, When } from "../parts.js";
import { replace, route } from "../route.js";

const OUTCOMES = { ok: "●", denied: "⊘", refused: "▲", failed: "✖" };
const KIND = { ok: "ready", denied: "trouble", refused: "busy", failed: "trouble" };
const SPANS = { day: 86_400, week: 7 * 86_400, month: 30 * 86_400 };
const PAGE = 100;

const asked = ({ who = "", outcome = "", search = "", span = "" }) => ({
  who,
  outcome: outcome in OUTCOMES ? outcome : "",
  search,
  since: SPANS[span] ? Math.floor(Date.now() / 1000) - SPANS[span] : undefined,
});

export function Audit() {
  const query = route.value.query;
  const key = JSON.stringify(query);
  const [lines, setLines] = useState(null);
  const [next, setNext] = useState(null);
  const [problem, setProblem] = useState(null);
  const typing = useRef(0);

  const load = (before) => {
    const mine = ++typing.current;
    return get("admin/audit", { ...asked(query), limit: PAGE, before }).then(
      (answer) => {
        if (mine !== typing.current) return; // the filter has changed meanwhile
        setProblem(null);
        setLines((now) => (before ? [...(now || []), ...answer.entries] : answer.entries));
        setNext(answer.next);
      },
      (failed) => mine === typing.current && setProblem(failed),
    );
  };
  useEffect(() => {
    const timer = setTimeout(() => load(), lines === null ? 0 : 200);
    return () => clearTimeout(timer);
  }, [key]);

  const choose = (more) => {
    replace("audit", "", Object.fromEntries(Object.entries({ ...query, ...more }).filter(([, value]) => value)));
    dispatchEvent(new HashChangeEvent("hashchange"));
  };
  const file = (format) => url("admin/audit/export", { ...asked(query), format }).href;
  const filtered = Object.keys(query).length > 0;

  return html`<section class="audit">
    <div class="tools">
      <h1>${t("nav.audit")}</h1>
      <input
        type="search"
        aria-label=${t("audit.search")}
        placeholder=${t("audit.search")}
        maxlength="200"
        value=${query.search || ""}
        onInput=${(event) => choose({ search: event.target.value })}
      />
      <label class="sorter show"
        ><span>${t("audit.who")}</span>
        <input class="short" maxlength="64" autocomplete="off" value=${query.who || ""} onChange=${(event) => choose({ who: event.target.value.trim() })} />
      </label>
      <label class="sorter show"
        ><span>${t("audit.outcome")}</span>
        <select value=${query.outcome || ""} onChange=${(event) => choose({ outcome: event.target.value })}>
          <option value="">${t("events.all")}</option>
          ${Object.keys(OUTCOMES).map((word) => html`<option value=${word}>${t(`audit.${word}`)}</option>`)}
        </select>
      </label>
      <label class="sorter show"
        ><span>${t("audit.span")}</span>
        <select value=${query.span || ""} onChange=${(event) => choose({ span: event.target.value })}>
          <option value="">${t("events.all")}</option>
          ${Object.keys(SPANS).map((word) => html`<option value=${word}>${t(`audit.${word}`)}</option>`)}
        </select>
      </label>
      <span class="all">
        <a class="act" href=${file("csv")} download>CSV ↓</a>
        <a class="act" href=${file("jsonl")} download>JSON ↓</a>
      </span>
    </div>
    ${problem && html`<${Trouble} problem=${problem} again=${() => load()} />`}
    ${!problem && lines === null && html`<p class="quiet" aria-busy="true">${t("state.loading")}</p>`}
    ${!problem &&
    lines?.length === 0 &&
    html`<${Empty} glyph="≡" title=${t(filtered ? "audit.no_match" : "audit.none")}>
      ${filtered ? html`<button onClick=${() => choose({ who: "", outcome: "", search: "", span: "" })}>${t("audit.show_all")}</button>` : t("audit.none_text")}
    </${Empty}>`}
    ${!problem &&
    lines?.length > 0 &&
    html`<table class="plain registry">
      <thead>
        <tr>
          ${["when", "who", "action", "target", "outcome"].map((name) => html`<th scope="col">${t(`audit.${name}`)}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${lines.map((line) => html`<${Line} key=${line.id} line=${line} />`)}
      </tbody>
    </table>`}
    ${!problem && next && html`<p class="center"><button onClick=${() => load(next)}>${t("act.older")}</button></p>`}
  </section>`;
}

function Line({ line }) {
  return html`<tr class=${classes(`o-${line.outcome}`)}>
    <td class="nowrap"><${When} at=${new Date(line.at * 1000).toISOString()} /></td>
    <th scope="row">${line.who} <span class="about">${[line.role, line.via, line.remote].filter(Boolean).join(" · ")}</span></th>
    <td class="mono">${line.action}</td>
    <td class="target">${line.target || "–"}</td>
    <td>
      <span class=${`state k-${KIND[line.outcome] || "off"}`}><span class="glyph" aria-hidden="true">${OUTCOMES[line.outcome] || "?"}</span> ${t(`audit.${line.outcome}`)}</span>
      ${line.status ? html` <span class="quiet">${line.status}</span>` : ""} ${line.detail && html`<span class="about">${line.detail}</span>`}
    </td>
  </tr>`;
}
