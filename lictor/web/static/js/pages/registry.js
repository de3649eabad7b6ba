// The cluster as Consul sees it: every node and every service, with the DNS names to use.
import { classes, html, useEffect, useState } from "../ui.js";
import { get } from "../api.js";
import { say, t, why } from "../i18n.js";
import { consul, may } from "../state.js";
import { Copy, Dialog, Empty, Health, Trouble, sentence } from "../parts.js";
import { go, to } from "../route.js";
import { Groups } from "./groups.js";
import { Leftovers } from "./leftovers.js";
import { useAnswer } from "./service.js";

const EVERY = 10_000;

export function Registry({ name }) {
  const [round, setRound] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => !document.hidden && setRound((now) => now + 1), EVERY);
    return () => clearInterval(timer);
  }, []);
  const [kept, keep] = useState(null);
  const [answer, problem, again] = useAnswer(round, () =>
    Promise.all([
      get("registry/services"),
      get("registry/nodes"),
      get("registry/groups"),
      // What is left over is more to ask for than the rest: without a right to it the page is still whole.
      may("registry_change") ? get("registry/clean-up").catch((unknown) => ({ leftovers: [], unknown })) : {},
    ]).then((answers) => Object.assign({}, ...answers)),
  );
  useEffect(() => {
    if (answer) keep(answer);
  }, [answer]);
  const shown = answer || kept;
  if (problem && !["consul", "503"].some((word) => String(problem.code).includes(word)) && problem.status !== 503) {
    return html`<${Trouble} problem=${problem} again=${again} />`;
  }
  if (problem) {
    return html`<${Empty} glyph="⊘" title=${t("registry.away")}>${t("registry.away_text", { why: reason(problem) })}</${Empty}>`;
  }
  if (!shown) return html`<p class="quiet" aria-busy="true">${t("state.loading")}</p>`;
  return html`<section>
    <div class="tools">
      <h1>${t("nav.registry")}</h1>
      ${consul.value?.ui && html`<a class="act" href=${consul.value.ui} target="_blank" rel="noreferrer noopener">${t("registry.consul_ui")} ↗</a>`}
      ${consul.value?.dns && html`<span class="quiet">DNS ${consul.value.dns}</span>`}
    </div>
    <${Nodes} nodes=${shown.nodes || []} />
    <${Groups} groups=${shown.groups || []} />
    ${shown.services.length
      ? html`<${Found} services=${shown.services} />`
      : html`<${Empty} title=${t("registry.none")}>${t("registry.none_text")}</${Empty}>`}
    ${shown.leftovers && html`<${Leftovers} leftovers=${shown.leftovers} unknown=${shown.unknown} again=${again} />`}
    ${name && html`<${One} key=${name} name=${name} />`}
  </section>`;
}

/** Why Consul cannot be asked, in the reader's language where the agent told. */
function reason(problem) {
  const told = consul.value;
  return told && told.state !== "ok" ? say(told.reason, told.reason_params, told.sentence) : sentence(problem);
}

function Nodes({ nodes }) {
  return html`<ul class="nodes">
    ${nodes.map(
      (node) => html`<li class=${classes("card", { this: node.this })}>
        <b>${node.node}</b> ${node.this && html`<span class="badge">${t("registry.this_node")}</span>`}
        ${node.lictor && html`<span class="badge">Lictor</span>`}
        <p>
          ${["passing", "warning", "critical", "maintenance"]
            .filter((word) => node[word])
            .map((word) => html`<${Health} health=${word} count=${node[word]} /> `)}
          ${!node.services && html`<span class="quiet">${t("registry.no_entries")}</span>`}
        </p>
        ${(node.agents || []).map((agent) => html`<${Agent} key=${agent.node} agent=${agent} alone=${agent.node === node.node && node.agents.length === 1} mine=${node.this} />`)}
      </li>`,
    )}
  </ul>`;
}

const AGENT = { running: ["ready", "●"], ended: ["off", "○"], gone: ["trouble", "✖"], unknown: ["off", "?"] };

/** How the agent of a node is, in the words of `lictor status --all-nodes`. */
function Agent({ agent, alone, mine }) {
  const [kind, glyph] = AGENT[agent.state] || AGENT.unknown;
  return html`<p class="agent">
    <span class=${`state k-${kind}`}><span class="glyph" aria-hidden="true">${glyph}</span> ${t(`agent.${agent.state}`)}</span>
    <span class="quiet">${alone ? "Lictor" : agent.node} ${agent.version || ""}</span>
    ${agent.gpus?.length > 0 && html`<span class="quiet">GPU: ${agent.gpus.length}</span>`}
    ${agent.ui && !mine && html`<a href=${safe(agent.ui)} rel="noreferrer noopener">${t("registry.its_dashboard")}</a>`}
    ${agent.reason && html`<span class="output">${say(agent.reason, agent.reason_params, agent.sentence)}</span>`}
  </p>`;
}

/** Only http and https: an address in the registry is anybody's word. */
const safe = (address) => (/^https?:\/\//i.test(address) ? address : "#/registry");

function Found({ services }) {
  return html`<table class="plain registry">
    <thead>
      <tr>
        <th scope="col">${t("column.service")}</th>
        <th scope="col">${t("column.health")}</th>
        <th scope="col">DNS</th>
        <th scope="col">${t("column.nodes")}</th>
        <th scope="col">${t("column.tags")}</th>
      </tr>
    </thead>
    <tbody>
      ${services.map(
        (row) => html`<tr key=${row.name}>
          <th scope="row"><a href=${to("registry", row.name)}>${row.name}</a></th>
          <td class="healths">
            ${["passing", "warning", "critical", "maintenance"]
              .filter((word) => row[word])
              .map((word) => html`<${Health} health=${word} count=${row[word]} />`)}
          </td>
          <td class="mono">${row.dns} <${Copy} text=${row.dns} /></td>
          <td>${(row.nodes || []).join(", ")}</td>
          <td>${(row.tags || []).map((tag) => html`<span class="tag">${tag}</span>`)}</td>
        </tr>`,
      )}
    </tbody>
  </table>`;
}

function One({ name }) {
  const [answer, problem] = useAnswer(name, () =>
    Promise.all([
      get(`registry/services/${encodeURIComponent(name)}`),
      get(`registry/resolve/${encodeURIComponent(name)}`).catch(() => null),
    ]),
  );
  const [found, dns] = answer || [];
  return html`<${Dialog} title=${name} wide onClose=${() => go("registry")}>
    ${problem && html`<p class="problem">${sentence(problem)}</p>`}
    ${found &&
    html`<ul class="list">
      ${found.instances.map(
        (one) => html`<li>
          <${Health} health=${one.health} /> <b>${one.address}:${one.port}</b> <span class="quiet">${one.node}</span>
          ${(one.tags || []).map((tag) => html`<span class="tag">${tag}</span>`)}
          ${one.output && html`<span class="output">${one.output}</span>`}
        </li>`,
      )}
    </ul>`}
    ${dns &&
    html`<h3>DNS</h3>
      <p class="mono">dig @${dns.server?.replace(/:(\d+)$/, " -p $1")} ${dns.question} SRV</p>
      <p>${dns.addresses?.length ? dns.addresses.join(", ") : dns.reason ? say(dns.reason, dns.reason_params, dns.sentence) : t("registry.no_answer")}</p>
      ${dns.also && html`<p class="mono">dig @${dns.server?.replace(/:(\d+)$/, " -p $1")} ${dns.also.question} SRV</p><p>${[...dns.also.a, ...dns.also.aaaa].join(", ")}</p>`}
      <ul class="list">
        ${(dns.left_out || []).map((one) => html`<li><span class="quiet">${t("registry.left_out")}</span> <b>${one.id || one.node || ""}</b> ${one.reasons?.length ? why(one) : one.reason || ""}</li>`)}
      </ul>`}
    <div class="dialog-actions"><button autofocus onClick=${() => go("registry")}>${t("act.close")}</button></div>
  </${Dialog}>`;
}
