// The door: name and password, or the one-time link of `lictor dashboard`, whose secret is in the
// fragment and therefore never in a request line or a log.
import { html, useEffect, useRef, useState } from "../ui.js";
import { post } from "../api.js";
import { t } from "../i18n.js";
import { whoAmI } from "../state.js";
import { Rich, sentence } from "../parts.js";
import { Settings } from "../shell.js";

export function Login() {
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  const form = useRef(null);
  const enter = async (event) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    const data = new FormData(form.current);
    try {
      await post("admin/auth/login", { username: data.get("username"), password: data.get("password") });
      await whoAmI();
    } catch (failed) {
      setProblem(failed);
      form.current.elements.password.select();
    }
    setBusy(false);
  };
  return html`<main class="login">
    <form ref=${form} onSubmit=${enter}>
      <${Mark} />
      <h1>Lictor</h1>
      <label>${t("login.name")} <input name="username" autocomplete="username" autofocus required maxlength="64" /></label>
      <label>${t("login.password")} <input name="password" type="password" autocomplete="current-password" required maxlength="1024" /></label>
      ${problem && html`<p class="problem" role="alert">${refusal(problem)}</p>`}
      <button class="primary" disabled=${busy}>${t("login.enter")}</button>
      <p class="quiet small"><${Rich} text=${t("login.first")} /></p>
    </form>
    <${Settings} />
  </main>`;
}

function refusal(problem) {
  if (problem.status === 401 || problem.status === 403) return t("login.wrong");
  if (problem.status === 429) return t("login.too_many");
  return sentence(problem);
}

export function Mark() {
  return html`<svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
    <rect width="32" height="32" rx="7" class="mark-ground" />
    <path d="M11 6v20M16 5v22M21 6v20" class="mark-rods" />
    <path d="M8.5 12h15M8.5 20h15" class="mark-bands" />
  </svg>`;
}

/** Exchange the secret of a one-time link; true if there was one, whatever came of it. */
export async function enterByLink() {
  const found = /^#\/?link=([\w-]{16,128})$/.exec(location.hash);
  if (!found) return false;
  history.replaceState(null, "", "#/services");
  try {
    await post("admin/auth/link", { secret: found[1] });
  } catch {
    // used already or too old: the login page says how to get in
  }
  return true;
}
