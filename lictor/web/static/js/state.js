// What the dashboard knows: who is here, the services as the agent last told them, and how fresh that is.
// One stream fills it; the pages only read. An order is the agent's to remember, so it survives a reload.
import { batch, computed, signal } from "./ui.js";
import { get, post, signedOut, stream } from "./api.js";

/** undefined: not asked yet; null: nobody signed in; else { username, role, rights }. */
export const me = signal(undefined);
export const services = signal(new Map());
export const system = signal({});
export const consul = signal(null);
export const warnings = signal([]);
/** "connecting", "live", "reconnecting" or "stale" (nothing heard for ten seconds). */
export const link = signal("connecting");
export const heard = signal(0); // milliseconds, when the agent last said something
export const loaded = signal(false);
export const trouble = signal(null); // the problem that keeps the list from being shown
/** What this page ordered, by service, until the agent's own record of it is here. */
export const asked = signal(new Map());
/** CPU and memory of the last 15 minutes: name -> { cpu: [], memory: [] }. */
export const history = signal({});

const STALE_AFTER = 10_000;
const HISTORY_EVERY = 15_000;

export const may = (right) => Boolean(me.value && me.value.rights && me.value.rights[right]);

/** Whether this person may start and stop this service. */
export function mine(row) {
  const scope = me.value?.rights?.services_change;
  return scope === "all" || (scope === "own" && row.hidden === false);
}

const BUSY = new Set(["starting", "stopping", "queued"]);
export const isUp = (row) => ["ready", "starting", "unhealthy", "stopping"].includes(row.phase);
export const isBusy = (row) => BUSY.has(row.phase) || asked.value.has(row.key);

export const counts = computed(() => {
  const count = { ready: 0, trouble: 0, off: 0, busy: 0 };
  for (const row of services.value.values()) count[kindOf(row.phase)] += 1;
  return count;
});

/** Four kinds of phases, for colour and for counting. */
export function kindOf(phase) {
  if (phase === "ready") return "ready";
  if (["starting", "stopping", "queued"].includes(phase)) return "busy";
  if (["unhealthy", "backoff", "failed", "blocked", "unknown"].includes(phase)) return "trouble";
  return "off";
}

function keyed(name, row) {
  return { ...row, key: name, told: Date.now() };
}

/** The time in whole seconds, for the few sentences that count. */
export const second = signal(Math.floor(Date.now() / 1000));

function whole(data) {
  batch(() => {
    if (data.services) {
      const next = new Map();
      for (const [name, row] of Object.entries(data.services)) next.set(name, keyed(name, row));
      services.value = next;
      for (const name of asked.value.keys()) settle(name, next.get(name));
    }
    if (data.system) system.value = data.system;
    if (data.consul) consul.value = data.consul;
    if (data.warnings) warnings.value = data.warnings;
    loaded.value = true;
    trouble.value = null;
    fresh();
  });
}

function one(row) {
  const name = row.key || (row.instance ? `${row.name}@${row.instance}` : row.name);
  batch(() => {
    const next = new Map(services.value);
    if (row.gone) next.delete(name);
    else next.set(name, keyed(name, { ...next.get(name), ...row }));
    services.value = next;
    settle(name, next.get(name));
    fresh();
  });
}

/** What changes all the time: { name: [uptime, CPU, memory] }. */
function figures(data) {
  const next = new Map(services.value);
  for (const [name, [uptime, cpu_percent, memory_mb]] of Object.entries(data)) {
    if (next.has(name)) next.set(name, { ...next.get(name), uptime, cpu_percent, memory_mb });
  }
  services.value = next;
  fresh();
}

function fresh() {
  heard.value = Date.now();
}

/** Forget what was asked for once the agent has its own record of it, or it came true. */
function settle(name, row) {
  const order = asked.value.get(name);
  if (!order || order.problem) return;
  const old = Date.now() - order.at > 8_000;
  if (!row || row.order || order.seen !== row.phase || old) forget(name);
}

export function forget(name) {
  const next = new Map(asked.value);
  next.delete(name);
  asked.value = next;
}

function note(name, order) {
  asked.value = new Map(asked.value).set(name, order);
}

/** Order a verb; the row shows what comes of it. `yes` insists where others would be hurt. */
export async function order(verb, names, { yes = false, reason = "" } = {}) {
  for (const name of names) {
    note(name, { verb, at: Date.now(), seen: services.value.get(name)?.phase });
  }
  await Promise.all(
    names.map(async (name) => {
      try {
        await post(`admin/services/${encodeURIComponent(name)}/${verb}`, { force: yes, reason });
        setTimeout(() => settle(name, services.value.get(name)), 8_100);
      } catch (problem) {
        note(name, { verb, at: Date.now(), problem });
      }
    }),
  );
}

export async function orderAll(verb) {
  await post(`admin/services/${verb}-all`, {});
}

async function sample() {
  if (document.hidden || !may("services_list")) return;
  try {
    history.value = (await get("admin/dashboard/history")).services;
  } catch {
    // sparklines are an ornament: without them the page says all it has to say
  }
}

/** The whole with what the stream does not tell: how Consul is, and what needs attention. */
function load() {
  return get("admin/services/status").then(whole, (problem) => {
    if (!services.value.size) trouble.value = problem;
    loaded.value = true;
  });
}

/** Begin to listen; the returned function ends it. */
export function attend() {
  loaded.value = false;
  const first = setTimeout(sample, 50);
  const sampling = setInterval(() => {
    sample();
    if (!document.hidden && link.value === "live") load();
  }, HISTORY_EVERY);
  const checking = setInterval(() => {
    second.value = Math.floor(Date.now() / 1000);
    if (link.value === "reconnecting" && Date.now() - heard.value > STALE_AFTER) link.value = "stale";
  }, 1_000);
  load();
  const end = stream("admin/services/stream", {
    on: {
      services: whole,
      service: one,
      gone: ({ name }) => one({ key: name, gone: true }),
      figures,
      dropped: load,
    },
    state: (word) => {
      if (word === "live" && link.value !== "live") {
        fresh();
        if (link.value !== "connecting") load();
      }
      if (!(word === "reconnecting" && link.value === "stale")) link.value = word;
    },
  });
  return () => {
    end();
    clearTimeout(first);
    clearInterval(sampling);
    clearInterval(checking);
    link.value = "connecting";
  };
}

export async function whoAmI() {
  try {
    me.value = await get("admin/auth/me");
    signedOut.value = false;
  } catch (problem) {
    if (problem.status === 401 || problem.status === 403) {
      // A session that ran out is renewed without a question.
      try {
        await post("admin/auth/refresh");
        me.value = await get("admin/auth/me");
        signedOut.value = false;
      } catch {
        me.value = null;
      }
    } else {
      me.value = me.value ?? null;
      trouble.value = problem;
    }
  }
}
