// What stands around every page: the way to the others, how fresh everything is, language and theme.
import { classes, html, signal, useEffect } from "./ui.js";
import { post } from "./api.js";
import { LANGUAGES, clock, language, say, speak, t } from "./i18n.js";
import { THEMES, theme } from "./prefs.js";
import { consul, heard, link, may, me, services, system, warnings } from "./state.js";
import { helpOpen } from "./keys.js";
import { Dialog } from "./parts.js";
import { Mark } from "./pages/login.js";
import { route } from "./route.js";

export const PAGES = [
  { page: "services", right: "services_list" },
  { page: "logs", right: "logs" },
  { page: "monitor", right: "monitor_summary" },
  { page: "registry", right: "registry" },
  { page: "events", right: "events" },
  { page: "users", right: "people" },
  { page: "audit", right: "audit" },
];

export function Shell({ children }) {
  useEffect(() => {
    // On a phone the row of pages is longer than the screen.
    document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  }, [route.value.page, language.value]);
  const here = { service: "services" }[route.value.page] || route.value.page;
  return html`<a class="skip" href="#main" onClick=${toMain}>${t("nav.skip")}</a>
    <header class="top">
      <a class="brand" href="#/services" aria-label="Lictor"><${Mark} /><b>${system.value.node || "Lictor"}</b></a>
      <nav aria-label=${t("nav.pages")}>
        ${PAGES.filter((one) => may(one.right)).map(
          (one) => html`<a href=${`#/${one.page}`} aria-current=${here === one.page ? "page" : undefined}>${t(`nav.${one.page}`)}</a>`,
        )}
      </nav>
      <${Freshness} />
      <${Person} />
    </header>
    <${Banners} />
    <main id="main" tabindex="-1" class=${classes({ old: link.value === "stale" })}>${children}</main>
    <footer>
      <${Settings} />
      <span class="quiet">Lictor ${system.value.version || ""}</span>
      <button class="quiet-button" onClick=${() => (helpOpen.value = true)}>${t("help.open")} <kbd>?</kbd></button>
    </footer>
    <${Help} />`;
}

function toMain(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

/** live / reconnecting / stale since. */
function Freshness() {
  const word = link.value;
  const text = word === "stale" ? t("live.stale", { since: clock(heard.value) }) : t(`live.${word}`);
  return html`<span class=${`live l-${word}`} role="status" title=${heard.value ? clock(heard.value) : ""}>
    <span class="glyph" aria-hidden="true">${{ live: "●", connecting: "◌", reconnecting: "◐", stale: "▲" }[word]}</span> ${text}
  </span>`;
}

const menu = signal(false);

function Person() {
  useEffect(() => {
    const close = (event) => !event.target.closest?.(".person") && (menu.value = false);
    addEventListener("click", close);
    return () => removeEventListener("click", close);
  }, []);
  const leave = async () => {
    menu.value = false;
    await post("admin/auth/logout").catch(() => {});
    me.value = null;
  };
  return html`<div class="person">
    <button
      class="quiet-button"
      aria-expanded=${menu.value ? "true" : "false"}
      aria-label=${t("nav.me", { name: me.value.username })}
      onClick=${() => (menu.value = !menu.value)}
      onKeyDown=${(event) => event.key === "Escape" && (menu.value = false)}
    >
      ${me.value.username} <span aria-hidden="true">▾</span>
    </button>
    ${menu.value &&
    html`<div class="menu">
      <p class="quiet">${t(`role.${me.value.role}`)}</p>
      ${may("own_password") && html`<a href="#/account" onClick=${() => (menu.value = false)}>${t("users.own_password")}</a>`}
      <button onClick=${leave}>${t("login.leave")}</button>
    </div>`}
  </div>`;
}

/** What needs attention, whatever page is open. */
function Banners() {
  const away = consul.value && consul.value.state !== "ok";
  const rest = warnings.value.filter((one) => !(away && one.reason === consul.value.reason));
  return html`${link.value === "stale" && html`<p class="banner bad" role="alert">▲ ${t("live.stale_text", { since: clock(heard.value) })}</p>`}
  ${away &&
  html`<p class="banner">▲ <b>Consul</b> ${say(consul.value.reason, consul.value.reason_params, consul.value.sentence)} ${t("consul.away_text")}</p>`}
  ${rest.slice(0, 3).map((one) => html`<p class="banner">▲ ${say(one.reason, one.reason_params, one.sentence)}</p>`)}
  ${rest.length > 3 && html`<p class="banner quiet">${t("warnings.more", { count: rest.length - 3 })}</p>`}`;
}

export function Settings() {
  return html`<div class="settings">
    <label
      ><span class="sr">${t("settings.language")}</span>
      <select value=${language.value} onChange=${(event) => speak(event.target.value, true)}>
        ${Object.entries(LANGUAGES).map(([code, name]) => html`<option value=${code} lang=${code}>${name}</option>`)}
      </select>
    </label>
    <label
      ><span class="sr">${t("settings.theme")}</span>
      <select value=${theme.value} onChange=${(event) => (theme.value = event.target.value)}>
        ${THEMES.map((name) => html`<option value=${name}>${t(`theme.${name}`)}</option>`)}
      </select>
    </label>
  </div>`;
}

const KEYS = [
  ["/", "filter"],
  ["j k", "move"],
  ["Enter", "open_one"],
  ["s", "start_stop"],
  ["r", "restart"],
  ["l", "logs"],
  ["p", "pin"],
  ["g G", "ends"],
  ["1 – 7", "pages"],
  ["?", "help"],
];

function Help() {
  if (!helpOpen.value) return null;
  return html`<${Dialog} title=${t("help.title")} onClose=${() => (helpOpen.value = false)}>
    <dl class="keys">
      ${KEYS.map(
        ([keys, what]) => html`<dt>${keys.split(" ").map((key) => (key === "–" ? "–" : html`<kbd>${key}</kbd>`))}</dt>
          <dd>${t(`help.${what}`)}</dd>`,
      )}
    </dl>
    <div class="dialog-actions"><button autofocus onClick=${() => (helpOpen.value = false)}>${t("act.close")}</button></div>
  </${Dialog}>`;
}
