// The first page: every service of this host, live, with what may be done to it.
import { classes, computed, html, signal, useEffect, useRef } from "../ui.js";
import { duration, megabytes, percent, t, why } from "../i18n.js";
import { pin, pinned, sorting } from "../prefs.js";
import { asked, forget, history, isUp, kindOf, loaded, may, me, mine, second, services, trouble } from "../state.js";
import { Empty, Icon, Phase, Spark, Trouble, advice, sentence } from "../parts.js";
import { ask } from "../act.js";
import { go, to } from "../route.js";
import { listen } from "../keys.js";

const filter = signal("");
const kind = signal("");
const current = signal(null);

const ORDER = { trouble: 0, busy: 1, ready: 2, off: 3 };
const SORTS = {
  name: (row) => row.key,
  state: (row) => ORDER[kindOf(row.phase)],
  memory: (row) => row.memory_mb ?? -1,
  cpu: (row) => row.cpu_percent ?? -1,
  uptime: (row) => row.uptime ?? -1,
  restarts: (row) => row.restart_count ?? -1,
};

const shown = computed(() => {
  const text = filter.value.trim().toLowerCase();
  const by = SORTS[sorting.value.by] || SORTS.name;
  const sign = sorting.value.down ? -1 : 1;
  return [...services.value.values()]
    .filter((row) => !kind.value || kindOf(row.phase) === kind.value)
    .filter(
      (row) =>
        !text ||
        [row.key, row.display_name, row.description, row.phase, t(`phase.${row.phase}`), String(row.port ?? ""), ...(row.tags || [])]
          .filter(Boolean)
          .some((word) => word.toLowerCase().includes(text)),
    )
    .sort((a, b) => {
      const [one, other] = [by(a), by(b)];
      const less = one < other ? -1 : one > other ? 1 : 0;
      return sign * less || (a.key < b.key ? -1 : 1);
    });
});

function move(step) {
  const rows = shown.value;
  if (!rows.length) return;
  const at = rows.findIndex((row) => row.key === current.value);
  const next = rows[Math.max(0, Math.min(rows.length - 1, at + step))] || rows[0];
  current.value = next.key;
  document.getElementById(`row-${next.key}`)?.focus({ preventScroll: false });
}

const here = () => shown.value.find((row) => row.key === current.value);

function withRow(act) {
  return () => {
    const row = here();
    if (!row) return false;
    act(row);
    return true;
  };
}

export function Services() {
  const field = useRef(null);
  useEffect(
    () =>
      listen({
        "/": () => field.current?.focus(),
        j: () => move(current.value === null ? 0 : 1),
        k: () => move(-1),
        ArrowDown: () => (current.value === null ? false : move(1)),
        ArrowUp: () => (current.value === null ? false : move(-1)),
        Enter: (event) => (event.target.closest("a, button") ? false : withRow((row) => go("service", row.key))()),
        s: withRow((row) => mine(row) && ask(isUp(row) ? "stop" : "start", [row.key])),
        r: withRow((row) => mine(row) && ask("restart", [row.key])),
        l: withRow((row) => may("logs") && go("logs", row.key)),
        p: withRow((row) => pin(row.key)),
      }),
    [],
  );
  if (!loaded.value) return html`<${Skeleton} />`;
  if (trouble.value) return html`<${Trouble} problem=${trouble.value} />`;
  if (!services.value.size) {
    return html`<${Empty} glyph="○" title=${t("services.none")}>${t("services.none_text")}</${Empty}>`;
  }
  return html`<section aria-labelledby="title">
    <h1 id="title" class="sr">${t("nav.services")}</h1>
    <${Tools} field=${field} />
    <${Pinned} />
    ${shown.value.length
      ? html`<${Table} />`
      : html`<${Empty} glyph="⌕" title=${t("services.no_match")}>
          <button onClick=${clear}>${t("act.clear_filter")}</button>
        </${Empty}>`}
  </section>`;
}

function clear() {
  filter.value = "";
  kind.value = "";
}

function Tools({ field }) {
  const kinds = ["ready", "busy", "trouble", "off"];
  const count = (name) => [...services.value.values()].filter((row) => kindOf(row.phase) === name).length;
  return html`<div class="tools">
    <input
      ref=${field}
      type="search"
      value=${filter.value}
      placeholder=${t("services.filter")}
      aria-label=${t("services.filter")}
      onInput=${(event) => (filter.value = event.target.value)}
      onKeyDown=${(event) => event.key === "Escape" && (clear(), event.target.blur())}
    />
    <div class="chips" role="group" aria-label=${t("services.by_state")}>
      ${kinds
        .filter((name) => count(name) || kind.value === name)
        .map(
          (name) => html`<button
            class=${classes("chip", `k-${name}`)}
            aria-pressed=${kind.value === name ? "true" : "false"}
            onClick=${() => (kind.value = kind.value === name ? "" : name)}
          >
            ${t(`kind.${name}`)} <b>${count(name)}</b>
          </button>`,
        )}
    </div>
    <label class="sorter"
      ><span>${t("services.sort")}</span>
      <select value=${sorting.value.by} onChange=${(event) => (sorting.value = { by: event.target.value, down: false })}>
        ${Object.keys(SORTS).map((name) => html`<option value=${name}>${t(`column.${name}`)}</option>`)}
      </select>
    </label>
    ${may("services_change_all") &&
    html`<div class="all">
      <button onClick=${() => ask("start", [], { all: true })}>${t("act.start_all")}</button>
      <button class="danger-quiet" onClick=${() => ask("stop", [], { all: true })}>${t("act.stop_all")}</button>
    </div>`}
  </div>`;
}

function Pinned() {
  const rows = pinned.value.map((name) => services.value.get(name)).filter((row) => row && mine(row));
  return (
    rows.length > 0 &&
    html`<div class="pinned" role="group" aria-label=${t("services.pinned")}>
      ${rows.map(
        (row) => html`<button
          class=${`k-${kindOf(row.phase)}`}
          onClick=${() => ask("restart", [row.key], { quick: true })}
          title=${t("act.restart_one", { name: row.display_name || row.key })}
        >
          <span aria-hidden="true">↻</span> ${row.display_name || row.key}
        </button>`,
      )}
    </div>`
  );
}

function Column({ by, name }) {
  const mineNow = sorting.value.by === by;
  const sort = () => (sorting.value = { by, down: mineNow ? !sorting.value.down : by !== "name" && by !== "state" });
  return html`<th scope="col" class=${`c-${by}`} aria-sort=${mineNow ? (sorting.value.down ? "descending" : "ascending") : "none"}>
    <button class="sort" onClick=${sort}>
      ${t(`column.${name || by}`)}<span aria-hidden="true">${mineNow ? (sorting.value.down ? " ↓" : " ↑") : ""}</span>
    </button>
  </th>`;
}

function Table() {
  const whole = me.value?.rights?.services_list !== "names";
  return html`<table class="services">
    <thead>
      <tr>
        <${Column} by="state" />
        <${Column} by="name" />
        <th scope="col" class="c-port">${t("column.port")}</th>
        ${whole &&
        html`<${Column} by="memory" /><${Column} by="cpu" /><${Column} by="uptime" /><${Column} by="restarts" />`}
        <th scope="col" class="c-act"><span class="sr">${t("column.actions")}</span></th>
      </tr>
    </thead>
    <tbody>
      ${shown.value.map((row) => html`<${Row} key=${row.key} row=${row} whole=${whole} />`)}
    </tbody>
  </table>`;
}

function Row({ row, whole }) {
  const past = history.value[row.key];
  const open = !row.hidden && whole;
  const first = shown.value[0]?.key;
  const focusable = current.value ? current.value === row.key : first === row.key;
  return html`<tr
    id=${`row-${row.key}`}
    class=${classes(`k-${kindOf(row.phase)}`, { current: current.value === row.key })}
    tabindex=${focusable ? 0 : -1}
    onFocus=${() => (current.value = row.key)}
  >
    <td class="c-state"><${Phase} phase=${row.phase} /></td>
    <th scope="row" class="c-name">
      ${open
        ? html`<a href=${to("service", row.key)}>${row.display_name || row.key}</a>`
        : html`<span>${row.display_name || row.key}</span>`}
      ${row.internal && html` <span class="badge" title=${t("services.internal_text")}>${t("services.internal")}</span>`}
      ${row.infrastructure && html` <span class="badge">${t("services.own")}</span>`}
      ${row.gpu && html` <span class="badge">GPU</span>`}
      ${row.description && html`<span class="about">${row.description}</span>`}
      <${Order} row=${row} />
      ${row.last_error && !isUp(row) && !why(row).includes(row.last_error) && html`<span class="last-error">${row.last_error}</span>`}
    </th>
    <td class="c-port">
      ${row.port ? html`<span>:${row.port}</span>` : html`<span class="quiet">–</span>`}
      ${row.container_id
        ? html`<span class="about" title=${row.container_id}>${row.container_id.slice(0, 12)}</span>`
        : row.pid && html`<span class="about nowrap">pid ${row.pid}</span>`}
    </td>
    ${whole &&
    html`<td class="c-memory" data-label=${t("column.memory")}>
        <span>${megabytes(row.memory_mb)}</span><${Spark} values=${past?.memory_mb} />
      </td>
      <td class="c-cpu" data-label=${t("column.cpu")}>
        <span>${percent(row.cpu_percent)}</span><${Spark} values=${past?.cpu_percent} most=${5} />
      </td>
      <td class="c-uptime" data-label=${t("column.uptime")}><${Uptime} row=${row} /></td>
      <td class=${classes("c-restarts", { some: row.restart_count > 0 })} data-label=${t("column.restarts")}>
        ${row.restart_count ?? "–"}
      </td>`}
    <td class="c-act"><${Actions} row=${row} /></td>
  </tr>`;
}

function Uptime({ row }) {
  if (!isUp(row) || !row.uptime) return html`<span class="quiet">–</span>`;
  return html`<span>${duration(row.uptime < 10 ? Math.floor(row.uptime) : row.uptime)}</span>`;
}

/** The sentence of the row; while an order is under way, the order and how far it is. */
export function Order({ row }) {
  const order = asked.value.get(row.key);
  if (order?.problem) {
    return html`<span class="order failed" role="alert"
      >${t("order.refused", { verb: t(`action.${order.verb}`) })} ${sentence(order.problem)} ${advice(order.problem)}
      <button class="quiet-button" onClick=${() => forget(row.key)}>${t("act.dismiss")}</button></span
    >`;
  }
  const open = row.order || order;
  const counts = row.phase === "backoff" || row.phase === "starting";
  const text = why(row, counts ? second.value - Math.floor(row.told / 1000) : 0);
  const plain = row.phase === "ready" && (row.reasons || []).length === 1 && !open;
  return html`<span class="why" aria-live=${open ? "polite" : "off"}
    >${open &&
    html`<span class="order"
      ><span class="spin" aria-hidden="true"></span>${row.order
        ? t("order.by", { verb: t(`action.${row.order.verb}`), who: row.order.who })
        : t("order.asked", { verb: t(`action.${order.verb}`) })}</span
    >`} ${row.phase === "starting" &&
    row.model?.percent >= 0 &&
    row.model.percent !== null &&
    html`<progress max="100" value=${row.model.percent} aria-label=${t("model.progress")}></progress>`} ${plain ? html`<span class="sr">${text}</span>` : text}</span
  >`;
}

export function Actions({ row }) {
  const name = row.display_name || row.key;
  const control = mine(row) && !row.internal && !row.infrastructure;
  const busy = asked.value.has(row.key) && !asked.value.get(row.key).problem;
  const isPinned = pinned.value.includes(row.key);
  return html`<div class="acts">
    ${control &&
    html`${isUp(row)
        ? html`<button class="act" disabled=${busy} aria-label=${t("act.stop_one", { name })} title=${t("act.stop_one", { name })} onClick=${() => ask("stop", [row.key])}>
            <${Icon} name="stop" /><span>${t("act.stop")}</span>
          </button>`
        : html`<button class="act" disabled=${busy} aria-label=${t("act.start_one", { name })} title=${t("act.start_one", { name })} onClick=${() => ask("start", [row.key])}>
            <${Icon} name="start" /><span>${t("act.start")}</span>
          </button>`}
      ${isUp(row) &&
      html`<button class="act" disabled=${busy} aria-label=${t("act.restart_one", { name })} title=${t("act.restart_one", { name })} onClick=${() => ask("restart", [row.key])}>
        <${Icon} name="restart" /><span>${t("act.restart")}</span>
      </button>`}`}
    ${may("logs") &&
    !row.hidden &&
    !row.internal &&
    html`<a class="act" href=${to("logs", row.key)} aria-label=${t("act.logs_of", { name })} title=${t("act.logs_of", { name })}><${Icon} name="log" /><span>${t("act.logs")}</span></a>`}
    ${control &&
    html`<button
      class="quiet-button pin"
      aria-pressed=${isPinned ? "true" : "false"}
      aria-label=${t("act.pin_one", { name })}
      title=${t("act.pin_one", { name })}
      onClick=${() => pin(row.key)}
    >
      ${isPinned ? "★" : "☆"}
    </button>`}
  </div>`;
}

function Skeleton() {
  return html`<div class="skeleton" aria-busy="true" aria-label=${t("state.loading")}>
    ${[1, 2, 3, 4].map(() => html`<div></div>`)}
  </div>`;
}
