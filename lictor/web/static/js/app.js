// Begins the dashboard: the language, who is here, and the page that the address names.
import { html, render, signal, useEffect } from "./ui.js";
import { signedOut, renew } from "./api.js";
import { language, speak, t } from "./i18n.js";
import { attend, loaded, may, me, trouble, whoAmI } from "./state.js";
import { Empty, Trouble } from "./parts.js";
import { Question } from "./act.js";
import { PAGES, Shell } from "./shell.js";
import { Login, enterByLink } from "./pages/login.js";
import { Services } from "./pages/services.js";
import { Service } from "./pages/service.js";
import { go, look, route } from "./route.js";
import { listen } from "./keys.js";

const RENEW_EVERY = 10 * 60_000; // an access token lasts 15 minutes

// The pages that are not the first are loaded when they are asked for.
const LATER = {
  logs: () => import("./pages/logs.js").then((module) => module.Logs),
  monitor: () => import("./pages/monitor.js").then((module) => module.Monitor),
  registry: () => import("./pages/registry.js").then((module) => module.Registry),
  events: () => import("./pages/events.js").then((module) => module.Events),
  users: () => import("./pages/users.js").then((module) => module.Users),
  audit: () => import("./pages/audit.js").then((module) => module.Audit),
  account: () => import("./pages/users.js").then((module) => module.Users),
};
const RIGHTS = { ...Object.fromEntries(PAGES.map((one) => [one.page, one.right])), service: "services_list", account: "own_password" };
const pages = signal({ services: Services, service: Service });

function load(page) {
  LATER[page]?.().then(
    (found) => {
      pages.value = { ...pages.value, [page]: found };
    },
    () => {
      pages.value = { ...pages.value, [page]: null }; // the agent was upgraded under this page
    },
  );
}

function Page() {
  const { page, name } = route.value;
  const known = page in RIGHTS;
  const found = pages.value[page];
  useEffect(() => {
    if (found === undefined) load(page);
  }, [page]);
  useEffect(() => {
    document.title = `${name || t(`nav.${known ? (page === "service" ? "services" : page) : "services"}`)} · Lictor`;
    scrollTo(0, 0);
  }, [page, name, language.value]);
  if (!known) {
    return html`<${Empty} glyph="?" title=${t("page.unknown")}><a href="#/services">${t("service.to_all")}</a></${Empty}>`;
  }
  if (!may(RIGHTS[page])) {
    return html`<${Empty} glyph="⊘" title=${t("problem.forbidden")}>${t("page.no_right", { role: t(`role.${me.value.role}`) })}</${Empty}>`;
  }
  if (found === null) {
    return html`<${Empty} glyph="↻" title=${t("page.upgraded")}><button onClick=${() => location.reload()}>${t("act.reload")}</button></${Empty}>`;
  }
  return found ? html`<${found} key=${page} name=${name} />` : html`<p class="quiet" aria-busy="true">${t("state.loading")}</p>`;
}

function Inside() {
  useEffect(() => {
    const end = may("services_list") ? attend() : () => {};
    if (!may("services_list")) loaded.value = true;
    const renewing = setInterval(() => renew().catch(() => {}), RENEW_EVERY);
    const keys = listen(
      Object.fromEntries(
        PAGES.map((one, index) => [String(index + 1), () => (may(one.right) ? go(one.page) : false)]),
      ),
    );
    return () => {
      end();
      clearInterval(renewing);
      keys();
    };
  }, [me.value?.username]);
  return html`<${Shell}><${Page} /></${Shell}><${Question} />`;
}

function App() {
  if (me.value === undefined) return html`<p class="boot">Lictor …</p>`;
  if (signedOut.value || me.value === null) {
    if (trouble.value?.status === 0) {
      return html`<main class="login"><${Trouble} problem=${trouble.value} again=${() => location.reload()} /></main>`;
    }
    return html`<${Login} />`;
  }
  return html`<${Inside} />`;
}

async function begin() {
  const speaking = speak();
  if (await enterByLink()) look();
  await Promise.all([speaking, whoAmI()]);
  const box = document.getElementById("app");
  box.textContent = "";
  render(html`<${App} />`, box);
}

begin();
