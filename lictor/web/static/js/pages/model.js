// Which model a service serves: how far a switch is, another one in its place, and those on the disk.
// A switch is the agent's: this shows the plan first, gives the order, and then only what the row tells.
import { html, useState } from "../ui.js";
import { api, get, post } from "../api.js";
import { duration, say, size, t } from "../i18n.js";
import { me } from "../state.js";
import { Dialog, When, advice, sentence } from "../parts.js";
import { useAnswer } from "./service.js";

const path = (name, rest) => `admin/services/${encodeURIComponent(name)}/${rest}`;
const hub = (id) => id.split("/").map(encodeURIComponent).join("/");

/** Whether this person may choose the model of this service. */
function chooses(row) {
  const scope = me.value?.rights?.params;
  return scope === "all" || (scope === "own" && row.hidden === false);
}

export function Model({ name, row }) {
  if (!row.model || !chooses(row)) return null;
  return html`<${Card} name=${name} model=${row.model} />`;
}

function Card({ name, model }) {
  const [answer, problem, again] = useAnswer(`${name} ${model.current} ${model.stage}`, () => get(path(name, "models")), name);
  const [wanted, setWanted] = useState(null);
  const [removing, setRemoving] = useState(null);
  const choose = (event) => {
    event.preventDefault();
    const id = new FormData(event.currentTarget).get("model").trim();
    if (id) setWanted(id);
  };
  const cached = answer?.models || [];
  const offered = [...new Set([...(answer?.choices || []), ...cached.map((one) => one.id)])];
  return html`<section class="card model" aria-labelledby="model-title">
    <h2 id="model-title">${t("model.title")}</h2>
    <p class="mono">${model.current}</p>
    <${Loading} model=${model} />
    <form class="model-choice" onSubmit=${choose}>
      <label>${t("model.another")}
        <input name="model" list="model-offers" required maxlength="300" autocomplete="off" spellcheck="false" placeholder="org/name" />
      </label>
      <datalist id="model-offers">${offered.map((id) => html`<option value=${id}></option>`)}</datalist>
      <button>${t("model.switch")}</button>
    </form>
    ${problem && html`<p class="problem">${sentence(problem)} ${advice(problem)}</p>`}
    ${cached.length > 0 &&
    html`<h3>${t("model.cached")}</h3>
      <ul class="list">
        ${cached.map(
          (one) => html`<li key=${one.id}>
            <b class="mono">${one.id}</b>
            <span>${size(one.size_bytes)}</span>
            ${one.last_used && html`<span class="quiet"><${When} at=${one.last_used} /></span>`}
            ${!one.complete && html`<span class="badge">${t("model.incomplete")}</span>`}
            ${one.in_use_by.length > 0 && html`<span class="quiet">${t("model.used_by", { names: one.in_use_by.join(", ") })}</span>`}
            <span class="acts">
              ${!one.current &&
              html`<button class="quiet-button" aria-label=${t("model.use_one", { model: one.id })} onClick=${() => setWanted(one.id)}>${t("model.use")}</button>`}
              ${!one.in_use_by.length &&
              html`<button class="danger-quiet quiet-button" aria-label=${t("model.remove_one", { model: one.id })} onClick=${() => setRemoving(one)}>${t("model.remove")}</button>`}
            </span>
          </li>`,
        )}
      </ul>`}
    ${wanted && html`<${Preview} key=${wanted} name=${name} wanted=${wanted} onClose=${() => setWanted(null)} />`}
    ${removing && html`<${Removal} name=${name} one=${removing} onClose=${() => setRemoving(null)} onDone=${again} />`}
  </section>`;
}

/** How far the loading is; nothing while nothing loads. */
export function Loading({ model }) {
  if (!model || model.percent === null || model.percent === undefined) {
    return model?.open && html`<p class="quiet" aria-busy="true">${t("model.to", { model: model.target })}</p>`;
  }
  return html`<p class="loading">
    <progress max="100" value=${model.percent} aria-label=${t("model.progress")}></progress>
    <span>${model.percent} %${model.eta_s ? ` · ${t("model.left", { time: duration(model.eta_s) })}` : ""}</span>
    ${model.grown_bytes > 0 && html`<span class="quiet">${t("model.fetched", { size: size(model.grown_bytes) })}</span>`}
  </p>`;
}

function Preview({ name, wanted, onClose }) {
  const [plan, problem] = useAnswer(`${name} ${wanted}`, () => get(path(name, "model/plan"), { model: wanted }));
  const [failed, setFailed] = useState(null);
  const [busy, setBusy] = useState(false);
  const hurts = plan?.hurts || [];
  const go = async () => {
    setBusy(true);
    try {
      await post(path(name, "model"), { model: wanted, force: hurts.length > 0 });
      onClose();
    } catch (refused) {
      setFailed(refused);
      setBusy(false);
    }
  };
  const wrong = failed || problem;
  return html`<${Dialog} title=${t("model.preview", { name, model: wanted })} onClose=${onClose}>
    ${!plan && !problem && html`<p class="quiet" aria-busy="true">${t("preview.planning")}</p>`}
    ${hurts.length > 0 && html`<p class="problem" role="alert">${t("preview.hurts", { names: hurts.join(", ") })}</p>`}
    ${plan &&
    (plan.steps.length
      ? html`<p class="quiet">${t("preview.steps")}</p>
          <ol class="steps">
            ${plan.steps.map(
              (step) => html`<li>
                <span class="verb v-${step.action}">${t(`action.${step.action}`)}</span> <b>${step.service}</b>
                <span class="quiet">${say(step.reason, step.reason_params, step.sentence)}</span>
              </li>`,
            )}
          </ol>`
      : html`<p>${t("model.at_next_start")}</p>`)}
    ${plan?.usual_s && html`<p class="quiet">${t("model.usual", { time: duration(plan.usual_s) })}</p>`}
    ${plan && html`<p class="quiet">${t("model.goes_back", { model: plan.before })}</p>`}
    ${wrong && html`<p class="problem" role="alert">${sentence(wrong)} ${advice(wrong)}</p>`}
    <div class="dialog-actions">
      <button onClick=${onClose}>${t("act.cancel")}</button>
      <button class=${hurts.length ? "danger" : "primary"} disabled=${busy || !plan} autofocus onClick=${go}>
        ${hurts.length ? t("preview.anyway") : t("model.switch")}
      </button>
    </div>
  </${Dialog}>`;
}

function Removal({ name, one, onClose, onDone }) {
  const [failed, setFailed] = useState(null);
  const go = async () => {
    try {
      await api("DELETE", path(name, `models/${hub(one.id)}`));
      onClose();
      onDone();
    } catch (problem) {
      setFailed(problem);
    }
  };
  return html`<${Dialog} title=${t("model.remove_one", { model: one.id })} onClose=${onClose}>
    <p>${t("model.remove_text", { size: size(one.size_bytes) })}</p>
    ${failed && html`<p class="problem" role="alert">${sentence(failed)} ${advice(failed)}</p>`}
    <div class="dialog-actions">
      <button onClick=${onClose}>${t("act.cancel")}</button>
      <button class="danger" autofocus onClick=${go}>${t("model.remove")}</button>
    </div>
  </${Dialog}>`;
}
