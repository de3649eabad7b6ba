// The journal: who did what, why, and what came of it. New lines come in at the top while one is there.
import { classes, html, useEffect, useRef, useState } from "../ui.js";
import { get, stream } from "../api.js";
import { has, say, t } from "../i18n.js";
import { services } from "../state.js";
import { Empty, Trouble, When } from "../parts.js";
import { replace, route, to } from "../route.js";

export const KINDS = ["phase", "verb", "outcome", "hold", "model", "desired", "config", "consul", "gpu", "agent", "store", "access"];

/** What was known and what came, each once, the newest first. */
const joined = (known, come) =>
  [...new Map([...known, ...come].map((one) => [one.id, one])).values()].sort((one, other) => other.id - one.id);

export function Events() {
  const { service = "", kind = "" } = route.value.query;
  const [lines, setLines] = useState(null);
  const [next, setNext] = useState(null);
  const [problem, setProblem] = useState(null);
  const fits = (one) => (!kind || one.kind === kind) && (!service || one.service === service || one.service?.startsWith(`${service}@`));

  const shown = useRef(null);
  shown.current = lines;
  const filter = useRef(0);

  const load = (before) => {
    const mine = filter.current;
    const newest = shown.current?.[0]?.id ?? 0;
    return get("admin/events", { lines: 100, service, kind, before }).then(
      (answer) => {
        if (mine !== filter.current) return; // another filter was chosen meanwhile
        const oldest = answer.events[0]?.id ?? answer.next ?? 0;
        // After a long silence more may be new than one answer holds: then what was known before the
        // gap goes, and "older" brings it back without one.
        const meets = before || !answer.more || newest >= oldest;
        setProblem(null);
        setLines((now) => joined((now || []).filter((one) => meets || one.id >= oldest), answer.events));
        if (before || !meets) setNext(answer.more ? answer.next : null);
      },
      (failed) => mine === filter.current && setProblem(failed),
    );
  };

  useEffect(() => {
    filter.current += 1;
    shown.current = null;
    setLines(null);
    setNext(null);
    setProblem(null);
    load();
    return stream("admin/events/stream", {
      query: { service, kind },
      // Again as soon as the stream is there, each time: it tells nothing of what was before it.
      state: (word) => word === "live" && load(),
      on: {
        event: (one) =>
          fits(one) && setLines((now) => (now && now.some((old) => old.id === one.id) ? now : [one, ...(now || [])].slice(0, 2_000))),
        dropped: () => load(),
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
