// People and their roles, and one's own password. A password that was made up is shown this once.
import { html, useRef, useState } from "../ui.js";
import { api, get, post } from "../api.js";
import { t } from "../i18n.js";
import { may, me, whoAmI } from "../state.js";
import { Dialog, ShownOnce, Trouble, When, advice, sentence } from "../parts.js";
import { useAnswer } from "./service.js";
import { Tokens } from "./tokens.js";

const ROLES = ["admin", "user", "web", "guest"];
const path = (name) => `admin/users/${encodeURIComponent(name)}`;

export function Users() {
  return html`<section>
    <div class="tools"><h1>${t(may("people") ? "nav.users" : "nav.account")}</h1></div>
    ${may("people") && html`<${People} />`}
    ${may("own_password") && html`<${OwnPassword} />`}
    ${may("people") && html`<${Tokens} />`}
  </section>`;
}

function People() {
  const [answer, problem, again] = useAnswer("users", () => get("admin/users"));
  const [open, setOpen] = useState(null);
  const [failed, setFailed] = useState(null);
  const fresh = () => {
    setFailed(null);
    again();
  };
  const done = () => {
    setOpen(null);
    fresh();
  };
  // An answer comes when it comes: a dialog that was opened meanwhile is not its to close.
  const change = (name, body) => api("PATCH", path(name), { body }).then(fresh, setFailed);
  const remove = (name) => api("DELETE", path(name)).then(done, setFailed);
  if (problem) return html`<${Trouble} problem=${problem} again=${again} />`;
  return html`<div class="card">
    <div class="scroll" tabindex="0" role="region" aria-label=${t("nav.users")}><table class="plain">
      <thead><tr><th scope="col">${t("users.name")}</th><th scope="col">${t("users.role")}</th><th scope="col">${t("users.since")}</th><th scope="col"><span class="sr">${t("column.actions")}</span></th></tr></thead>
      <tbody>
        ${(answer || []).map(
          (user) => html`<tr key=${user.name}>
            <th scope="row">${user.name} ${user.disabled && html`<span class="badge">${t("users.disabled")}</span>`}</th>
            <td>
              <select
                aria-label=${t("users.role_of", { name: user.name })}
                value=${user.role}
                disabled=${user.name === me.value.username}
                onChange=${(event) => change(user.name, { role: event.target.value })}
              >
                ${ROLES.map((role) => html`<option value=${role}>${t(`role.${role}`)}</option>`)}
              </select>
            </td>
            <td><${When} at=${new Date(user.created * 1000).toISOString()} /></td>
            <td>
              ${user.name !== me.value.username &&
              html`<div class="acts">
                <button onClick=${() => change(user.name, { disabled: !user.disabled })}>
                  ${t(user.disabled ? "users.enable" : "users.disable")}
                </button>
                <button class="danger-quiet" onClick=${() => setOpen({ remove: user.name })}>${t("users.delete")}</button>
              </div>`}
            </td>
          </tr>`,
        )}
      </tbody>
    </table></div>
    ${failed && html`<p class="problem" role="alert">${sentence(failed)} ${advice(failed)}</p>`}
    <p><button class="primary" onClick=${() => setOpen({ create: true })}>${t("users.create")}</button></p>
    ${open?.create && html`<${Create} onClose=${done} />`}
    ${open?.remove &&
    html`<${Dialog} title=${t("users.delete_one", { name: open.remove })} onClose=${() => setOpen(null)}>
      <p>${t("users.delete_text")}</p>
      <div class="dialog-actions">
        <button onClick=${() => setOpen(null)}>${t("act.cancel")}</button>
        <button class="danger" autofocus onClick=${() => remove(open.remove)}>${t("users.delete")}</button>
      </div>
    </${Dialog}>`}
  </div>`;
}

function Create({ onClose }) {
  const form = useRef(null);
  const [made, setMade] = useState(null);
  const [problem, setProblem] = useState(null);
  const create = async (event) => {
    event.preventDefault();
    const data = new FormData(form.current);
    const password = data.get("password");
    try {
      const user = await post("admin/users", { username: data.get("username"), role: data.get("role"), ...(password ? { password } : {}) });
      if (user.password) setMade(user);
      else onClose();
    } catch (failed) {
      setProblem(failed);
    }
  };
  if (made) {
    return html`<${Dialog} title=${t("users.made", { name: made.name })} onClose=${onClose}>
      <${ShownOnce} text=${t("users.made_text")} secret=${made.password} onClose=${onClose} />
    </${Dialog}>`;
  }
  return html`<${Dialog} title=${t("users.create")} onClose=${onClose}>
    <form ref=${form} onSubmit=${create} class="stack">
      <label>${t("users.name")} <input name="username" required maxlength="64" autocomplete="off" autofocus /></label>
      <label>${t("users.role")}
        <select name="role">${ROLES.map((role) => html`<option value=${role} selected=${role === "user"}>${t(`role.${role}`)}</option>`)}</select>
      </label>
      <label>${t("login.password")} <input name="password" type="password" maxlength="1024" autocomplete="new-password" aria-describedby="made-up" /></label>
      <p class="quiet small" id="made-up">${t("users.made_up")}</p>
      ${problem && html`<p class="problem" role="alert">${sentence(problem)} ${advice(problem)}</p>`}
      <div class="dialog-actions">
        <button type="button" onClick=${onClose}>${t("act.cancel")}</button>
        <button class="primary">${t("users.create")}</button>
      </div>
    </form>
  </${Dialog}>`;
}

function OwnPassword() {
  const form = useRef(null);
  const [said, setSaid] = useState(null);
  const change = async (event) => {
    event.preventDefault();
    const data = new FormData(form.current);
    try {
      await post("admin/auth/password", { current_password: data.get("current"), new_password: data.get("fresh") });
      form.current.reset();
      setSaid({ done: true });
      whoAmI();
    } catch (problem) {
      setSaid({ problem });
    }
  };
  return html`<div class="card">
    <h2>${t("users.own_password")}</h2>
    <form ref=${form} onSubmit=${change} class="stack narrow">
      <input type="hidden" name="username" autocomplete="username" value=${me.value.username} />
      <label>${t("users.current_password")} <input name="current" type="password" required maxlength="1024" autocomplete="current-password" /></label>
      <label>${t("users.new_password")} <input name="fresh" type="password" required maxlength="1024" autocomplete="new-password" /></label>
      ${said?.problem && html`<p class="problem" role="alert">${said.problem.code === "password.wrong" ? t("users.password_wrong") : sentence(said.problem)} ${advice(said.problem)}</p>`}
      ${said?.done && html`<p class="good" role="status">${t("users.password_changed")}</p>`}
      <p><button>${t("users.change_password")}</button></p>
    </form>
  </div>`;
}
