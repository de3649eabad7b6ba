// What was left over in Consul, and taking it out: the list first, then exactly what was chosen of it.
import { html, useEffect, useState } from "../ui.js";
import { get, post } from "../api.js";
import { say, t } from "../i18n.js";
import { may } from "../state.js";
import { Dialog, Health, advice, sentence } from "../parts.js";

const place = (one) => `${one.node} ${one.id}`;

export function Leftovers({ leftovers, unknown, again }) {
  const [open, setOpen] = useState(false);
  const removable = leftovers.filter((one) => one.removable).length;
  const done = () => {
    setOpen(false);
    again();
  };
  return html`<section class="card leftovers">
    <h2>${t("registry.leftovers")}</h2>
    ${unknown
      ? html`<p class="problem">${sentence(unknown)} ${advice(unknown)}</p>`
      : leftovers.length
      ? html`<p class="quiet">${t("registry.leftovers_text")}</p>
          <ul class="list">${leftovers.map((one) => html`<${Entry} key=${place(one)} one=${one} />`)}</ul>`
      : html`<p class="quiet">${t("registry.no_leftovers")}</p>`}
    ${may("registry_change") &&
    removable > 0 &&
    html`<p class="after"><button class="danger-quiet" onClick=${() => setOpen(true)}>${t("registry.clean_up", { count: removable })}</button></p>`}
    ${open && html`<${CleanUp} onClose=${done} />`}
  </section>`;
}

function Entry({ one }) {
  return html`<li>
    <b>${one.service}</b> <span class="badge">${one.lictor || one.node}</span> <${Health} health=${one.health} />
    ${!one.removable && html`<span class="badge">${t("registry.stays")}</span>`}
    <span class="output">${say(one.reason, one.reason_params, one.sentence)} <span class="mono">${one.id}</span></span>
  </li>`;
}

/** Asks anew what is left over, lets one choose, and shows what became of each. */
function CleanUp({ onClose }) {
  const [found, setFound] = useState(null);
  const [chosen, setChosen] = useState(new Set());
  const [done, setDone] = useState(null);
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    get("registry/clean-up").then((answer) => {
      const rows = answer.leftovers.filter((one) => one.removable);
      setFound(rows);
      setChosen(new Set(rows.map(place)));
    }, setProblem);
  }, []);
  const choose = (one, on) => {
    const next = new Set(chosen);
    if (on) next.add(place(one));
    else next.delete(place(one));
    setChosen(next);
  };
  const go = async () => {
    setBusy(true);
    try {
      const entries = found.filter((one) => chosen.has(place(one))).map(({ node, id }) => ({ node, id }));
      setDone((await post("registry/clean-up", { entries })).entries);
    } catch (failed) {
      setProblem(failed);
    }
    setBusy(false);
  };
  return html`<${Dialog} title=${t("registry.clean_up_title")} wide onClose=${onClose}>
    ${!found && !problem && html`<p class="quiet" aria-busy="true">${t("preview.planning")}</p>`}
    ${found && !done && html`<p>${t(found.length ? "registry.clean_up_text" : "registry.no_leftovers")}</p>`}
    ${found &&
    !done &&
    html`<ul class="list choices">
      ${found.map(
        (one) => html`<li key=${place(one)}>
          <label class="check"
            ><input type="checkbox" checked=${chosen.has(place(one))} onChange=${(event) => choose(one, event.target.checked)} /> <b>${one.service}</b></label
          >
          <span class="badge">${one.lictor || one.node}</span>
          <span class="output">${say(one.reason, one.reason_params, one.sentence)} <span class="mono">${one.id}</span></span>
        </li>`,
      )}
    </ul>`}
    ${done &&
    html`<ul class="list" role="status">
      ${done.map(
        (row) => html`<li key=${place(row)}>
          <span class=${`state k-${row.result === "done" ? "ready" : row.result === "already" ? "off" : "trouble"}`}>${t(`result.${row.result}`)}</span>
          <span>${say(row.reason, row.reason_params, row.sentence)}</span>
        </li>`,
      )}
    </ul>`}
    ${problem && html`<p class="problem" role="alert">${sentence(problem)} ${advice(problem)}</p>`}
    <div class="dialog-actions">
      <button autofocus onClick=${onClose}>${t(done ? "act.close" : "act.cancel")}</button>
      ${!done && found?.length > 0 && html`<button class="danger" disabled=${busy || !chosen.size} onClick=${go}>${t("registry.take_out", { count: chosen.size })}</button>`}
    </div>
  </${Dialog}>`;
}
