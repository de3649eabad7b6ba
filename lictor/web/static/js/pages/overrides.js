// What an operator lays over the config of one service: a hold, and the values of its parameters.
import { html, useRef, useState } from "../ui.js";
import { get, post } from "../api.js";
import { clock, t } from "../i18n.js";
import { me } from "../state.js";
import { Dialog, Rich, advice, sentence } from "../parts.js";
import { useAnswer } from "./service.js";

const path = (name, what) => `admin/services/${encodeURIComponent(name)}/${what}`;
const STATES = ["stopped", "running", "maintenance"];
const HOURS = ["", 1, 4, 24];

/** What the agent answered, whole: these refusals say what would fit. */
const said = (problem) => `${sentence(problem)} ${advice(problem)}`;

export function Holding({ name, row }) {
  const [answer, problem, again] = useAnswer(`${name} ${row.phase} ${row.reason} ${row.desired}`, () => get(path(name, "hold")), name);
  const [open, setOpen] = useState(false);
  const [failed, setFailed] = useState(null);
  const release = (held) =>
    post(path(held.as, "release"), {}).then(() => {
      setFailed(null);
      again();
    }, setFailed);
  const held = answer?.hold;
  return html`<section class="card">
    <h2>${t("hold.title")}</h2>
    ${problem && html`<p class="problem">${sentence(problem)}</p>`}
    ${!answer && !problem && html`<p class="quiet" aria-busy="true">${t("state.loading")}</p>`}
    ${answer && !held && html`<p class="quiet">${t("hold.none")}</p>`}
    ${held &&
    html`<p>
        ⏸ ${t("hold.by", { by: held.by, state: t(`hold.state_${held.state}`), since: clock(held.since * 1000) })}
        ${held.until ? t("hold.until", { until: clock(held.until * 1000) }) : t("hold.without_end")}
      </p>
      <p class="quote">${held.reason}</p>`}
    ${failed && html`<p class="problem" role="alert">${said(failed)}</p>`}
    ${answer &&
    html`<p>
      ${held
        ? html`<button onClick=${() => release(held)}>${t("hold.release")}</button>`
        : html`<button onClick=${() => setOpen(true)}>${t("hold.hold")}</button>`}
    </p>`}
    ${open && html`<${Hold} name=${name} onClose=${() => setOpen(false)} onDone=${() => (setOpen(false), again())} />`}
  </section>`;
}

function Hold({ name, onClose, onDone }) {
  const form = useRef(null);
  const [end, setEnd] = useState("");
  const [problem, setProblem] = useState(null);
  const hurts = problem?.status === 409 && problem.code !== "held";
  const hold = async (event) => {
    event.preventDefault();
    const data = new FormData(form.current);
    const moment = end === "at" ? data.get("moment") && new Date(data.get("moment")) : end && new Date(Date.now() + end * 3_600_000);
    try {
      await post(path(name, "hold"), {
        state: data.get("state"),
        reason: data.get("reason"),
        force: hurts,
        ...(moment ? { until: moment.toISOString() } : {}),
      });
      onDone();
    } catch (failed) {
      setProblem(failed);
    }
  };
  return html`<${Dialog} title=${t("hold.hold_one", { name })} onClose=${onClose}>
    <form ref=${form} onSubmit=${hold} class="stack">
      <p class="quiet">${t("hold.text")}</p>
      <label>${t("hold.state")}
        <select name="state" autofocus>${STATES.map((state) => html`<option value=${state}>${t(`hold.state_${state}`)}</option>`)}</select>
      </label>
      <label>${t("hold.reason")} <input name="reason" required maxlength="200" autocomplete="off" /></label>
      <label>${t("hold.end")}
        <select value=${end} onChange=${(event) => setEnd(event.target.value)}>
          ${HOURS.map((hours) => html`<option value=${hours}>${hours ? t("hold.hours", { hours }) : t("hold.no_end")}</option>`)}
          <option value="at">${t("hold.at")}</option>
        </select>
      </label>
      ${end === "at" && html`<label>${t("hold.moment")} <input name="moment" type="datetime-local" required /></label>`}
      ${problem && html`<p class="problem" role="alert">${said(problem)}</p>`}
      <div class="dialog-actions">
        <button type="button" onClick=${onClose}>${t("act.cancel")}</button>
        <button class=${hurts ? "danger" : "primary"}>${t(hurts ? "preview.anyway" : "hold.hold_now")}</button>
      </div>
    </form>
  </${Dialog}>`;
}

/** Whether this person may set the parameters of this service. */
export const setsParams = (row) => {
  const scope = me.value?.rights?.params;
  return scope === "all" || (scope === "own" && row.hidden === false);
};

export function Params({ name, row }) {
  const [answer, problem, again] = useAnswer(`${name} ${row.phase} ${row.reason} ${row.pid}`, () => get(path(name, "params")), name);
  const [open, setOpen] = useState(null);
  const [failed, setFailed] = useState(null);
  const unset = (one) =>
    post(path(name, "params"), { unset: [one.name] }).then(() => {
      setFailed(null);
      again();
    }, setFailed);
  if (answer && !answer.params.length) return null; // config.yml gives none to choose
  return html`<section class="card">
    <h2>${t("params.title")}</h2>
    ${problem && html`<p class="problem">${sentence(problem)}</p>`}
    ${!answer && !problem && html`<p class="quiet" aria-busy="true">${t("state.loading")}</p>`}
    ${answer?.refused && html`<p class="problem">${answer.refused}</p>`}
    <ul class="list params">
      ${(answer?.params || []).map(
        (one) => html`<li key=${one.name}>
          <b>${one.name}</b> <span class="mono value">${String(one.value)}</span>
          ${one.source !== "config" && html`<span class="badge">${t(`source.${one.source}`)}</span>`}
          <span class="acts">
            <button aria-label=${t("params.change_one", { name: one.name })} onClick=${() => setOpen(one)}>${t("params.change")}</button>
            ${one.source === "kv_node" &&
            html`<button aria-label=${t("params.unset_one", { name: one.name })} title=${one.secret ? undefined : t("params.default", { value: String(one.default) })} onClick=${() => unset(one)}>${t("params.unset")}</button>`}
          </span>
        </li>`,
      )}
    </ul>
    ${answer?.by && html`<p class="quiet small after">${t("params.by", { by: answer.by })} ${answer.why}${answer.until ? ` ${t("hold.until", { until: clock(answer.until * 1000) })}` : ""}</p>`}
    ${failed && html`<p class="problem" role="alert">${said(failed)}</p>`}
    ${open && html`<${Change} name=${name} one=${open} onClose=${() => setOpen(null)} onDone=${() => (setOpen(null), again())} />`}
  </section>`;
}

function Change({ name, one, onClose, onDone }) {
  const form = useRef(null);
  const [problem, setProblem] = useState(null);
  const save = async (event) => {
    event.preventDefault();
    const data = new FormData(form.current);
    try {
      await post(path(name, "params"), { set: { [one.name]: data.get("value") }, reason: data.get("reason") });
      onDone();
    } catch (failed) {
      setProblem(failed);
    }
  };
  const choices = one.type === "bool" ? [true, false] : one.choices;
  const fits = one.secret ? "" : one.pattern ? t("params.pattern", { pattern: one.pattern }) : choices.length ? "" : t(`params.type_${one.type}`);
  return html`<${Dialog} title=${t("params.change_of", { param: one.name, name })} onClose=${onClose}>
    <form ref=${form} onSubmit=${save} class="stack">
      <label>${t("params.value")}
        ${choices.length
          ? html`<select name="value" autofocus>${choices.map((choice) => html`<option value=${String(choice)} selected=${choice === one.value}>${String(choice)}</option>`)}</select>`
          : html`<input
              name="value"
              required
              autofocus
              maxlength="1000"
              autocomplete="off"
              type=${one.secret ? "password" : "text"}
              inputmode=${{ int: "numeric", float: "decimal" }[one.type]}
              defaultValue=${one.secret ? "" : String(one.value)}
              aria-describedby="fits"
            />`}
      </label>
      <p class="quiet small" id="fits"><${Rich} text=${fits} /> ${one.secret ? "" : t("params.default", { value: String(one.default) })}</p>
      <label>${t("params.reason")} <input name="reason" maxlength="300" autocomplete="off" /></label>
      <p class="quiet small"><${Rich} text=${t("params.restarts")} /></p>
      ${problem && html`<p class="problem" role="alert">${said(problem)}</p>`}
      <div class="dialog-actions">
        <button type="button" onClick=${onClose}>${t("act.cancel")}</button>
        <button class="primary">${t("params.set")}</button>
      </div>
    </form>
  </${Dialog}>`;
}
