// Doing something to services: the preview of the plan first, then the order. The row shows the rest.
import { html, signal, useEffect, useState } from "./ui.js";
import { get } from "./api.js";
import { say, t, why } from "./i18n.js";
import { order, orderAll, services } from "./state.js";
import { Dialog, advice, sentence } from "./parts.js";

/** The question that is open: { verb, names, all } or null. */
const question = signal(null);

/** Ask before doing; `quick` does it at once when it concerns nobody else. */
export async function ask(verb, names, { all = false, quick = false } = {}) {
  if (!quick) {
    question.value = { verb, names, all };
    return;
  }
  try {
    const plan = await foresee(verb, names, all);
    const alone = plan.hurts.length === 0 && plan.held.length === 0 && !plan.refused;
    if (alone && plan.steps.every((step) => names.includes(step.service))) {
      await order(verb, names);
      return;
    }
    question.value = { verb, names, all, plan };
  } catch {
    question.value = { verb, names, all };
  }
}

function foresee(verb, names, all) {
  return get("admin/dashboard/preview", { verb, service: all ? [] : names });
}

export function Question() {
  const open = question.value;
  return open && html`<${Preview} key=${open.verb + open.names} ...${open} />`;
}

function Preview({ verb, names, all, plan: known }) {
  const [plan, setPlan] = useState(known || null);
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    if (!known) foresee(verb, names, all).then(setPlan, setProblem);
  }, []);
  const close = () => {
    question.value = null;
  };
  const go = async () => {
    setBusy(true);
    try {
      if (all) await orderAll(verb);
      else await order(verb, names, { yes: Boolean(plan?.hurts.length) });
      close();
    } catch (failed) {
      setProblem(failed);
      setBusy(false);
    }
  };
  const shown = all ? t("preview.all") : names.map(nameOf).join(", ");
  const nothing = plan && !plan.steps.length;
  return html`<${Dialog} title=${t(`preview.${verb}`, { names: shown })} onClose=${close}>
    ${!plan && !problem && html`<p class="quiet" aria-busy="true">${t("preview.planning")}</p>`}
    ${plan && html`<${Steps} plan=${plan} />`}
    ${problem && html`<p class="problem" role="alert">${sentence(problem)} ${advice(problem)}</p>`}
    <div class="dialog-actions">
      <button onClick=${close}>${t("act.cancel")}</button>
      ${!nothing &&
      html`<button
        class=${verb === "stop" || plan?.hurts.length ? "danger" : "primary"}
        disabled=${busy || (!plan && !problem) || Boolean(plan?.refused)}
        autofocus
        onClick=${go}
      >
        ${plan?.hurts.length ? t("preview.anyway") : t(`act.${verb}`)}
      </button>`}
    </div>
  </${Dialog}>`;
}

function Steps({ plan }) {
  return html`<div>
    ${plan.refused && html`<p class="problem" role="alert">${why(plan.refused)}</p>`}
    ${plan.hurts.length > 0 &&
    html`<p class="problem" role="alert">
      ${t("preview.hurts", { names: plan.hurts.map(nameOf).join(", ") })}
    </p>`}
    ${plan.steps.length
      ? html`<p class="quiet">${t("preview.steps")}</p>
          <ol class="steps">
            ${plan.steps.map(
              (step) => html`<li>
                <span class="verb v-${step.action}">${t(`action.${step.action}`)}</span> <b>${nameOf(step.service)}</b>
                <span class="quiet">${say(step.reason, step.reason_params, step.sentence)}</span>
              </li>`,
            )}
          </ol>`
      : !plan.refused && html`<p>${t("preview.nothing")}</p>`}
    ${plan.held.map(
      (row) => html`<p class="quiet">
        ⏸ <b>${nameOf(row.service)}</b> ${row.reasons.map((part) => say(part.code, part.params)).join(" ")}
      </p>`,
    )}
  </div>`;
}

const nameOf = (name) => services.value.get(name)?.display_name || name;
