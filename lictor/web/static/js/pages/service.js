// One service: why it is as it is, its checks, what happened to it, its definition, its last lines.
import { html, useEffect, useState } from "../ui.js";
import { get } from "../api.js";
import { duration, has, megabytes, percent, say, t, why } from "../i18n.js";
import { history, loaded, may, services } from "../state.js";
import { Copy, Empty, Health, Phase, Spark, Trouble, When, sentence } from "../parts.js";
import { Holding, Params, setsParams } from "./overrides.js";
import { Actions, Order } from "./services.js";
import { Model } from "./model.js";
import { line } from "../ansi.js";
import { to } from "../route.js";

/**
 * Ask for something once per `key`; [answer, problem, again].
 *
 * `about`: while it is the same, the last answer stays until the next is there. Else a button below
 * it would go and come with each push, and take the focus of whoever is at it along. It is never
 * shown of anything else: a hold of one service under the name of another would be a lie.
 */
export function useAnswer(key, question, about = key) {
  const [state, set] = useState({ about: null });
  const [round, again] = useState(0);
  useEffect(() => {
    let gone = false;
    question().then(
      (answer) => !gone && set({ about, answer }),
      (problem) => !gone && set({ about, problem }),
    );
    return () => {
      gone = true;
    };
  }, [key, round]);
  const now = state.about === about ? state : {};
  return [now.answer, now.problem, () => again((before) => before + 1)];
}

export function Service({ name }) {
  const row = services.value.get(name);
  if (!row) {
    return loaded.value
      ? html`<${Empty} glyph="?" title=${t("service.unknown", { name })}>
          <a href="#/services">${t("service.to_all")}</a>
        </${Empty}>`
      : html`<p class="quiet" aria-busy="true">${t("state.loading")}</p>`;
  }
  return html`<article class="service">
    <header class="service-head">
      <div>
        <p class="crumb"><a href="#/services">${t("nav.services")}</a></p>
        <h1>${row.display_name || name}</h1>
        ${row.description && html`<p class="quiet">${row.description}</p>`}
      </div>
      <${Actions} row=${row} />
    </header>
    <section class="truth">
      <${Phase} phase=${row.phase} />
      <p><${Order} row=${row} /></p>
    </section>
    <${Facts} row=${row} />
    <${Model} name=${name} row=${row} />
    <div class="columns">
      <${Explain} name=${name} row=${row} />
      ${may("health") && html`<${Checks} name=${name} phase=${row.phase} />`}
      ${may("events") && html`<${Happened} name=${name} row=${row} />`}
      <${Definition} name=${name} row=${row} />
      ${may("holds") && !row.infrastructure && html`<${Holding} name=${name} row=${row} />`}
      ${setsParams(row) && html`<${Params} name=${name} row=${row} />`}
    </div>
    ${may("logs") && !row.internal && html`<${LastLines} name=${name} row=${row} />`}
  </article>`;
}

function Facts({ row }) {
  const past = history.value[row.key];
  return html`<dl class="facts">
    <div><dt>${row.container_id ? t("column.container") : "PID"}</dt>
      <dd>${row.container_id ? row.container_id.slice(0, 12) : (row.pid ?? "–")}</dd></div>
    <div><dt>${t("column.address")}</dt><dd>${row.port ? `${row.address}:${row.port}` : "–"}</dd></div>
    <div><dt>${t("column.health")}</dt><dd><${Health} health=${row.health} /></dd></div>
    <div><dt>${t("column.memory")}</dt><dd>${megabytes(row.memory_mb)} <${Spark} values=${past?.memory_mb} /></dd></div>
    <div><dt>${t("column.cpu")}</dt><dd>${percent(row.cpu_percent)} <${Spark} values=${past?.cpu_percent} most=${5} /></dd></div>
    <div><dt>${t("column.uptime")}</dt><dd>${row.uptime ? duration(row.uptime) : "–"}</dd></div>
    <div><dt>${t("column.restarts")}</dt><dd>${row.restart_count ?? "–"}</dd></div>
    ${row.last_error && html`<div class="wide"><dt>${t("column.last_error")}</dt><dd class="mono">${row.last_error}</dd></div>`}
  </dl>`;
}

/** From what is wanted to what DNS says; the first step that is not as it should be is marked. */
function Explain({ name, row }) {
  const [answer, problem] = useAnswer(
    `${name} ${row.phase} ${row.health} ${row.desired}`,
    () => (may("registry") ? get(`registry/explain/${encodeURIComponent(name)}`) : Promise.resolve(null)),
    name,
  );
  const good = { ok: true, gap: false };
  const chain = answer?.steps
    ? answer.steps.map((one) => ({ ...one, layer: one.step, ok: good[one.verdict] ?? null }))
    : local(row);
  return html`<section class="card">
    <h2>${t("service.explain")}</h2>
    <ol class="chain">
      ${chain.map(
        (step) => html`<li class=${step.ok === false ? "is-bad" : step.ok ? "is-good" : "is-unsaid"}>
          <b>${has(`explain.${step.layer}`) ? t(`explain.${step.layer}`) : step.layer}</b>
          <span>${step.reason ? say(step.reason, step.reason_params, step.sentence) : step.sentence}</span>
        </li>`,
      )}
    </ol>
    ${problem && problem.status !== 501 && problem.status !== 404 && html`<p class="quiet">${sentence(problem)}</p>`}
  </section>`;
}

/** What this page knows by itself, for an agent that cannot tell more. */
function local(row) {
  const wanted = row.desired !== "stopped";
  return [
    { layer: "desired", ok: true, sentence: t(`desired.${row.desired}`) },
    { layer: "process", ok: !wanted || Boolean(row.pid || row.container_id) || row.internal, sentence: t(`phase.${row.phase}`) },
    { layer: "agent", ok: !wanted || row.phase === "ready", sentence: why(row) },
    {
      layer: "catalog",
      ok: row.registered === null ? undefined : row.registered || !wanted,
      sentence: row.registered ? t("explain.registered") : row.registered === false ? t("explain.unregistered") : t("explain.unsaid"),
    },
    {
      layer: "check",
      ok: row.health ? row.health === "passing" : undefined,
      sentence: row.health ? t(`health.${row.health}`) : t("explain.unsaid"),
    },
  ];
}

function Checks({ name, phase }) {
  const [answer, problem, again] = useAnswer(`${name} ${phase}`, () => get(`supervisor/health/${encodeURIComponent(name)}`), name);
  const rows = Object.entries(answer?.details || {});
  return html`<section class="card">
    <h2>${t("service.checks")} <button class="quiet-button" onClick=${again}>${t("act.check_now")}</button></h2>
    ${problem && html`<p class="problem">${sentence(problem)}</p>`}
    ${!answer && !problem && html`<p class="quiet" aria-busy="true">${t("state.loading")}</p>`}
    <ul class="list">
      ${rows.map(
        ([check, seen]) => html`<li>
          <${Health} health=${seen.status} /> <b>${check}</b>
          <span class="quiet">${Math.round(seen.took_ms)} ms</span>
          <span class="output">${seen.output}</span>
        </li>`,
      )}
    </ul>
  </section>`;
}

function Happened({ name, row }) {
  const [answer, problem] = useAnswer(
    `${name} ${row.phase} ${row.reason}`,
    () => get("admin/events", { service: name, lines: 8 }),
    name,
  );
  const lines = [...(answer?.events || [])].sort((one, other) => other.id - one.id);
  return html`<section class="card">
    <h2>${t("nav.events")} <a class="more" href=${to("events", "", { service: name })}>${t("act.more")}</a></h2>
    ${problem && html`<p class="problem">${sentence(problem)}</p>`}
    ${answer && !lines.length && html`<p class="quiet">${t("events.none")}</p>`}
    <ul class="list events-short">
      ${lines.map(
        (one) => html`<li><${When} at=${one.at} /> <span>${say(one.reason, one.reason_params, one.sentence)}</span></li>`,
      )}
    </ul>
  </section>`;
}

function Definition({ name, row: now }) {
  const [answer, problem] = useAnswer(
    `${name} ${now.pid} ${JSON.stringify(now.params)}`,
    () => (may("health") ? get(`admin/services/${encodeURIComponent(name)}`) : Promise.resolve({})),
    name,
  );
  if (problem) return null;
  const row = answer || {};
  const facts = [
    ["command", row.command?.length && row.command.map(quoted).join(" ")],
    ["cwd", row.cwd],
    ["user", row.user],
    ["activation", row.activation && t(`activation.${row.activation}`)],
    ["depends_on", row.depends_on?.map((one) => one.name).join(", ")],
    ["params", row.params && Object.entries(row.params).map(([key, value]) => `${key}=${value}`).join("  ")],
    ["limits", row.limits && Object.entries(row.limits).map(([key, value]) => `${key}=${value}`).join("  ")],
    ["source", row.source && t(`source.${row.source}`)],
    ["tags", row.tags?.join(", ")],
    ["log", row.log],
  ].filter(([, value]) => value);
  return html`<section class="card">
    <h2>${t("service.config")}</h2>
    ${!answer && html`<p class="quiet" aria-busy="true">${t("state.loading")}</p>`}
    <dl class="pairs">
      ${facts.map(
        ([key, value]) => html`<dt>${t(`config.${key}`)}</dt>
          <dd class="mono">${value}${["command", "log"].includes(key) && html` <${Copy} text=${value} />`}</dd>`,
      )}
    </dl>
  </section>`;
}

const quoted = (word) => (/^[\w@%+=:,./{}-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`);

function LastLines({ name, row }) {
  const [answer, problem] = useAnswer(
    `${name} ${row.phase} ${row.pid}`,
    () => get(`admin/logs/${encodeURIComponent(name)}`, { lines: 12 }),
    name,
  );
  return html`<section class="card">
    <h2>${t("service.last_lines")} <a class="more" href=${to("logs", name)}>${t("act.open_log")}</a></h2>
    ${problem && html`<${Trouble} problem=${problem} />`}
    ${answer && !answer.lines.length && html`<p class="quiet">${t(`logs.why_${answer.empty || "empty"}`)}</p>`}
    ${answer?.lines.length > 0 &&
    html`<pre class="log-short" tabindex="0" aria-label=${t("service.last_lines")}>
${answer.lines.map((text) => html`<span class="log-line">${line(text)}${"\n"}</span>`)}</pre>`}
  </section>`;
}
