// Groups: services that replace each other. Who answers, who stands by and why, and the names to use.
import { html } from "../ui.js";
import { say, t } from "../i18n.js";
import { services } from "../state.js";
import { Copy, Health } from "../parts.js";
import { to } from "../route.js";

const ROLES = { best: ["ready", "●"], standby: ["busy", "◐"], out: ["trouble", "✖"], absent: ["off", "○"] };

function Role({ role }) {
  const [kind, glyph] = ROLES[role] || ROLES.absent;
  return html`<span class=${`state k-${kind}`}><span class="glyph" aria-hidden="true">${glyph}</span> ${t(`group.${role}`)}</span>`;
}

export function Groups({ groups }) {
  return groups.map(
    (one) => html`<section class="card group" key=${one.group} aria-label=${t("group.title", { name: one.group })}>
      <h2>${t("group.title", { name: one.group })}</h2>
      <ul class="names">
        ${one.dns.map(
          (name) => html`<li>
            <span class="mono">${name.name}</span><${Copy} text=${name.name} />
            <span class="quiet">${name.works ? t(`group.gives_${name.gives}`) : t("group.no_name")}</span>
          </li>`,
        )}
      </ul>
      ${one.trouble && html`<p class="problem">${say(one.trouble.reason, one.trouble.reason_params, one.trouble.sentence)}</p>`}
      <ol class="list members">
        ${one.members.map((member) => html`<${Member} key=${member.service} member=${member} />`)}
        ${one.elsewhere.map(
          (far) => html`<li key=${`${far.node} ${far.service}`}>
            <${Role} role=${far.role} /> <span class="who"><b>${far.service}</b> <span class="badge">${far.node}</span></span> <${Health} health=${far.health} />
          </li>`,
        )}
      </ol>
    </section>`,
  );
}

function Member({ member }) {
  return html`<li>
    <${Role} role=${member.role} />
    <span class="who">
      ${services.value.has(member.service) ? html`<a href=${to("service", member.service)}>${member.service}</a>` : html`<b>${member.service}</b>`}
      <span class="quiet">${t("group.rank", { rank: member.rank })}</span>
    </span>
    <span class="output">${say(member.reason, member.reason_params, member.sentence)}</span>
  </li>`;
}
