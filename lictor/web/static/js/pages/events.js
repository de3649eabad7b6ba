// The journal: who did what, why, and what came of it. New lines come in at the top while one is there.
import { classes, html, useEffect, useState } from "../ui.js";
import { get, stream } from "../api.js";
import { has, say, t } from "../i18n.js";
import { services } from "../state.js";
import { Empty, Trouble, When } from "../parts.js";
import { replace, route, to } from "../route.js";

export const KINDS = ["phase", "verb", "outcome", "hold", "model", "desired", "config", "consul", "gpu", "agent", "store", "access"];

export function Events() {
  const { service = "", kind = "" } = route.value.query;
  const [lines, setLines] = useState(null);
  const [next, setNext] = useState(null);
  const [problem, setProblem] = useState(null);
  const fits = (one) => (!kind || one.kind === kind) && (!service || one.service === service || one.service?.startsWith(`${service}@`));

  const load = (before) =>
    get("admin/events", { lines: 100, service, kind, before }).then(
      (answer) => {
        const rows = [...answer.events].sort((one, other) => other.id - one.id);
        setLines((now) => (before ? [...(now || []), ...rows] : rows));
        setNext(answer.more ? answer.next : null);
      },
      (failed) => setProblem(failed),
    );

  useEffect(() => {
    setLines(null);
    setProblem(null);
    load();
    return stream("admin/events/stream", {
      query: { service, kind },
      on: {
        event: (one) =>
          fits(one) && setLines((now) => (now && now.some((old) => old.id === one.id) ? now : [one, ...(now || [])].slice(0, 2_000))),
      },
    });
  }, [service, kind]);

  const choose = (more) => {
    const query = Object.fromEntries(Object.entries({ service, kind, ...more }).filter(([, value]) => value));
    replace("events", "", query);
    dispatchEvent(new HashChangeEvent("hashchange"));
  };

  return html`<section>
    <div class="tools">
      <h1>${t("nav.events")}</h1>
      <label class="sorter show"
        ><span>${t("column.service")}</span>
        <select value=${service} onChange=${(event) => choose({ service: event.target.value })}>
          <option value="">${t("events.all")}</option>
          ${[...new Set([...services.value.keys(), service].filter(Boolean))].map((name) => html`<option value=${name}>${name}</option>`)}
        </select>
      </label>
      <label class="sorter show"
        ><span>${t("column.kind")}</span>
        <select value=${kind} onChange=${(event) => choose({ kind: event.target.value })}>
          <option value="">${t("events.all")}</option>
          ${KINDS.map((name) => html`<option value=${name}>${t(`event.${name}`)}</option>`)}
        </select>
      </label>
    </div>
    ${problem && html`<${Trouble} problem=${problem} />`}
    ${!problem && lines === null && html`<p class="quiet" aria-busy="true">${t("state.loading")}</p>`}
    ${lines && !lines.length && html`<${Empty} glyph="≡" title=${t("events.none")}>${t("events.none_text")}</${Empty}>`}
    ${lines?.length > 0 &&
    html`<ol class="events">
      ${lines.map(
        (one) => html`<li key=${one.id} class=${classes(`e-${one.kind}`, { bad: ["failed", "refused"].includes(one.outcome) || ["failed", "unhealthy"].includes(one.phase) })}>
          <${When} at=${one.at} />
          <span class="kind">${has(`event.${one.kind}`) ? t(`event.${one.kind}`) : one.kind}</span>
          ${one.service ? html`<a href=${to("service", one.service)}>${one.service}</a>` : html`<span></span>`}
          <span class="text">${say(one.reason, one.reason_params, one.sentence)}</span>
        </li>`,
      )}
    </ol>`}
    ${next && html`<p class="center"><button onClick=${() => load(next)}>${t("act.older")}</button></p>`}
  </section>`;
}
