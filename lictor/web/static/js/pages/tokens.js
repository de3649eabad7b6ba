// API tokens: credentials for programs. The text of one is shown once, when it was made.
import { html, useRef, useState } from "../ui.js";
import { api, get, post } from "../api.js";
import { clock, t } from "../i18n.js";
import { Dialog, ShownOnce, Trouble, When, advice, sentence } from "../parts.js";
import { useAnswer } from "./service.js";

const ROLES = ["admin", "user", "web", "guest"];
const DAYS = [30, 90, 365, 0];
/** Rights that a program is given most often; a token without any has all those of its role. */
const RIGHTS = ["services_list", "services_change", "services_change_all", "params", "holds", "health", "logs", "events", "monitor", "registry", "metrics", "gateway"];

const at = (seconds) => new Date(seconds * 1000).toISOString();

export function Tokens() {
  const [answer, problem, again] = useAnswer("tokens", () => get("admin/tokens"));
  const [open, setOpen] = useState(null);
  const [failed, setFailed] = useState(null);
  const close = () => {
    setOpen(null);
    setFailed(null);
    again();
  };
  const revoke = (token) => api("DELETE", `admin/tokens/${encodeURIComponent(token.id)}`).then(close, setFailed);
  if (problem) return html`<${Trouble} problem=${problem} again=${again} />`;
  return html`<div class="card tokens">
    <h2>${t("users.tokens")}</h2>
    <p class="quiet">${t(answer?.length === 0 ? "tokens.none" : "tokens.text")}</p>
    ${!answer && html`<p class="quiet" aria-busy="true">${t("state.loading")}</p>`}
    <ul class="list">
      ${(answer || []).map(
        (token) => html`<li key=${token.id}>
          <b>${token.name}</b>
          <span class="quiet">${token.user ? t("tokens.acts_for", { name: token.user }) : t(`role.${token.role}`)}</span>
          ${token.only && html`<span class="quiet mono">${token.only.join(" ")}</span>`}
          <span class="quiet">${token.used ? html`${t("users.last_used")} <${When} at=${at(token.used)} />` : t("tokens.unused")}</span>
          ${token.expires && html`<span class="quiet">${t("tokens.expires", { moment: clock(token.expires * 1000) })}</span>`}
          <span class="acts"
            ><button class="danger-quiet" aria-label=${t("tokens.revoke_one", { name: token.name })} onClick=${() => setOpen({ revoke: token })}>${t("users.revoke")}</button></span
          >
        </li>`,
      )}
    </ul>
    <p class="after"><button class="primary" onClick=${() => setOpen({ create: true })}>${t("tokens.create")}</button></p>
    ${open?.create && html`<${Create} onClose=${close} />`}
    ${open?.revoke &&
    html`<${Dialog} title=${t("tokens.revoke_title", { name: open.revoke.name })} onClose=${close}>
      <p>${t("tokens.revoke_text")}</p>
      ${failed && html`<p class="problem" role="alert">${sentence(failed)} ${advice(failed)}</p>`}
      <div class="dialog-actions">
        <button onClick=${close}>${t("act.cancel")}</button>
        <button class="danger" autofocus onClick=${() => revoke(open.revoke)}>${t("users.revoke")}</button>
      </div>
    </${Dialog}>`}
  </div>`;
}

function Create({ onClose }) {
  const [people] = useAnswer("people", () => get("admin/users"));
  const form = useRef(null);
  const [made, setMade] = useState(null);
  const [problem, setProblem] = useState(null);
  const create = async (event) => {
    event.preventDefault();
    const data = new FormData(form.current);
    const [kind, who] = String(data.get("who")).split(/:(.*)/s);
    const only = data.getAll("only");
    const days = Number(data.get("lasts"));
    try {
      setMade(
        await post("admin/tokens", {
          name: data.get("name"),
          ...(kind === "user" ? { user: who } : { role: who }),
          ...(only.length ? { only } : {}),
          ...(days ? { lasts: days * 86_400 } : {}),
        }),
      );
    } catch (failed) {
      setProblem(failed);
    }
  };
  if (made) {
    return html`<${Dialog} title=${t("tokens.made", { name: made.name })} onClose=${onClose}>
      <${ShownOnce} text=${t("tokens.made_text")} secret=${made.token} onClose=${onClose}>
        <p class="quiet small mono">Authorization: Bearer …</p>
      </${ShownOnce}>
    </${Dialog}>`;
  }
  return html`<${Dialog} title=${t("tokens.create")} onClose=${onClose}>
    <form ref=${form} onSubmit=${create} class="stack">
      <label>${t("users.name")} <input name="name" required maxlength="64" autocomplete="off" autofocus /></label>
      <label>${t("tokens.whose")}
        <select name="who">
          <optgroup label=${t("tokens.by_role")}>
            ${ROLES.map((role) => html`<option value=${`role:${role}`} selected=${role === "user"}>${t(`role.${role}`)}</option>`)}
          </optgroup>
          ${people?.length > 0 &&
          html`<optgroup label=${t("tokens.by_user")}>
            ${people.map((user) => html`<option value=${`user:${user.name}`}>${user.name} (${t(`role.${user.role}`)})</option>`)}
          </optgroup>`}
        </select>
      </label>
      <label>${t("tokens.lasts")}
        <select name="lasts">${DAYS.map((days) => html`<option value=${days} selected=${days === 90}>${days ? t("tokens.days", { days }) : t("tokens.for_ever")}</option>`)}</select>
      </label>
      <details>
        <summary>${t("tokens.only")}</summary>
        <p class="quiet small">${t("tokens.only_text")}</p>
        <div class="rights">
          ${RIGHTS.map((right) => html`<label class="check"><input type="checkbox" name="only" value=${right} /> ${t(`right.${right}`)}</label>`)}
        </div>
      </details>
      ${problem && html`<p class="problem" role="alert">${sentence(problem)} ${advice(problem)}</p>`}
      <div class="dialog-actions">
        <button type="button" onClick=${onClose}>${t("act.cancel")}</button>
        <button class="primary">${t("tokens.make")}</button>
      </div>
    </form>
  </${Dialog}>`;
}
