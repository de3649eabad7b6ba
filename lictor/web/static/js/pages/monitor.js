// The host: GPUs by owner, CPU, memory, disks, network, containers, the busiest processes. Every figure
// may be unknown, and then the page says why. The charts begin when the page is opened; for a longer
// memory there is Prometheus.
import { classes, html, useEffect, useRef, useState } from "../ui.js";
import { Problem, get, stream } from "../api.js";
import { duration, has, language, megabytes, percent, say, size, t } from "../i18n.js";
import { may } from "../state.js";
import { theme } from "../prefs.js";
import { Bar, Empty, Trouble } from "../parts.js";
import { to } from "../route.js";

const KEPT = 450; // figures, one each two seconds: fifteen minutes

export function Monitor() {
  const [now, setNow] = useState(null);
  const [problem, setProblem] = useState(null);
  const past = useRef({ at: [], cpu: [], memory: [] });
  useEffect(() => {
    const take = (figures) => {
      setProblem(null);
      setNow(figures);
      const kept = past.current;
      kept.at.push(Date.parse(figures.at) / 1000);
      kept.cpu.push(figures.cpu?.percent ?? null);
      kept.memory.push(figures.memory?.percent ?? null);
      for (const row of Object.values(kept)) if (row.length > KEPT) row.shift();
    };
    const ask = () => get("admin/monitor").then(take, setProblem);
    ask();
    if (!may("monitor")) {
      const timer = setInterval(ask, 5_000);
      return () => clearInterval(timer);
    }
    // A proxy may hold streams back: then the figures are asked for instead.
    let live = false;
    const polling = setInterval(() => !live && !document.hidden && ask(), 5_000);
    const end = stream("admin/monitor/stream", {
      on: {
        monitor: (figures) => {
          live = true;
          take(figures);
        },
        problem: (told) => setProblem(new Problem(503, told)),
      },
      state: (word) => {
        if (word !== "live") live = false;
      },
    });
    return () => {
      clearInterval(polling);
      end();
    };
  }, []);
  if (problem && !now) return html`<${Trouble} problem=${problem} />`;
  if (!now) return html`<p class="quiet" aria-busy="true">${t("state.loading")}</p>`;
  return html`<section class="monitor">
    <div class="tools"><h1>${t("nav.monitor")}</h1><span class="quiet">${now.node}</span></div>
    <${Gpus} gpu=${now.gpu} unknown=${now.unknown} />
    <div class="columns">
      <${Cpu} cpu=${now.cpu} unknown=${now.unknown} />
      <${Memory} memory=${now.memory} swap=${now.swap} unknown=${now.unknown} />
    </div>
    <${Chart} past=${past.current} count=${past.current.at.length} at=${now.at} />
    <div class="columns">
      <${Disks} disks=${now.disks} unknown=${now.unknown} />
      <${Network} network=${now.network} unknown=${now.unknown} />
      <${Docker} docker=${now.docker} unknown=${now.unknown} />
    </div>
    <${Processes} processes=${now.processes} unknown=${now.unknown} />
  </section>`;
}

/** Why a figure is not there, in one sentence. */
function Unknown({ unknown, name }) {
  const why = unknown?.[name];
  return html`<p class="quiet">${why ? say(why.code, why.params, why.sentence) : t("monitor.unknown")}</p>`;
}

function Gpus({ gpu, unknown }) {
  const list = Array.isArray(gpu) ? gpu : gpu?.gpus || gpu?.devices || [];
  if (!list.length) {
    const why = unknown?.gpu;
    return html`<${Empty} glyph="▱" title=${t("monitor.no_gpu")}>
      ${why ? say(why.code, why.params, why.sentence) : ""} ${t("monitor.no_gpu_text")}
    </${Empty}>`;
  }
  return html`<div class="columns">${list.map((one) => html`<${Gpu} one=${one} />`)}</div>`;
}

function Gpu({ one }) {
  const memory = one.memory || one;
  const total = memory.total_mb ?? one.memory_total_mb ?? 0;
  const used = memory.used_mb ?? one.memory_used_mb ?? 0;
  const owners = (one.owners || one.processes || []).map((owner) => ({
    value: owner.memory_mb || 0,
    label: [ownerName(owner), megabytes(owner.memory_mb), ownerState(owner)].filter(Boolean).join(" · "),
  }));
  const told = owners.reduce((sum, owner) => sum + owner.value, 0);
  const parts = used > told ? [...owners, { value: used - told, label: `${t("monitor.others")} · ${megabytes(used - told)}`, kind: "rest" }] : owners;
  const figures = [
    ["monitor.load", percent(one.util_percent ?? one.utilization_percent ?? one.percent)],
    ["monitor.temperature", one.temperature_c === null || one.temperature_c === undefined ? "–" : `${Math.round(one.temperature_c)} °C`],
    ["monitor.power", one.power_w === null || one.power_w === undefined ? "–" : `${Math.round(one.power_w)} W`],
    ["monitor.fan", percent(one.fan_percent)],
  ];
  return html`<section class="card gpu">
    <h2>GPU ${one.index ?? ""} <span class="quiet">${one.name}${one.lost ? ` · ${t("gpu.lost")}` : ""}</span></h2>
    <${Bar} parts=${parts} total=${total} label=${`VRAM ${megabytes(used)} / ${megabytes(total)}`} />
    <p><b>${megabytes(used)}</b> <span class="quiet">/ ${megabytes(total)} VRAM</span></p>
    <ul class="legend">${parts.map((part, index) => html`<li><span class=${`swatch p-${part.kind || index % 6}`}></span>${part.label}</li>`)}</ul>
    <dl class="facts small">${figures.map(([key, value]) => html`<div><dt>${t(key)}</dt><dd>${value}</dd></div>`)}</dl>
  </section>`;
}

/** A service, a program of somebody else's, or nobody whom we may name. */
const ownerName = (owner) => owner.service || (owner.pid ? `${owner.name || "?"} (pid ${owner.pid})` : t("monitor.others"));

/** What keeps it there, or since when it could leave for another. */
function ownerState(owner) {
  if (!has(`gpu.state.${owner.state}`)) return "";
  const since = owner.state === "idle" && owner.idle_s !== null ? ` ${duration(owner.idle_s)}` : "";
  return t(`gpu.state.${owner.state}`) + since;
}

function Cpu({ cpu, unknown }) {
  if (!cpu) return html`<section class="card"><h2>CPU</h2><${Unknown} unknown=${unknown} name="cpu" /></section>`;
  const cores = cpu.per_core || [];
  return html`<section class="card">
    <h2>CPU <span class="quiet">${cpu.model || ""}</span></h2>
    <p><b>${percent(cpu.percent, 1)}</b> <span class="quiet">${t("monitor.cores", { count: cpu.cores ?? "?" })}</span></p>
    <svg class="cores" width=${Math.max(1, cores.length) * 26} viewBox=${`0 0 ${Math.max(1, cores.length) * 10} 40`} preserveAspectRatio="none" role="img" aria-label=${t("monitor.per_core")}>
      ${cores.map(
        (value, index) => html`<rect class="ground" x=${index * 10 + 1} y="0" width="8" height="40" />
          <rect class="part p-0" x=${index * 10 + 1} y=${40 - value * 0.4} width="8" height=${value * 0.4}><title>${index}: ${percent(value)}</title></rect>`,
      )}
    </svg>
    <dl class="facts small">
      <div><dt>${t("monitor.frequency")}</dt><dd>${cpu.frequency_mhz ? `${(cpu.frequency_mhz / 1000).toFixed(2)} GHz` : "–"}</dd></div>
      <div><dt>${t("monitor.temperature")}</dt><dd title=${unknown?.["cpu.temperature_c"]?.sentence}>${cpu.temperature_c === null || cpu.temperature_c === undefined ? "–" : `${Math.round(cpu.temperature_c)} °C`}</dd></div>
      <div><dt>${t("monitor.load_average")}</dt><dd>${cpu.load ? cpu.load.map((value) => value.toFixed(2)).join("  ") : "–"}</dd></div>
    </dl>
  </section>`;
}

function Memory({ memory, swap, unknown }) {
  return html`<section class="card">
    <h2>${t("column.memory")}</h2>
    ${memory
      ? html`<p><b>${megabytes(memory.used_mb)}</b> <span class="quiet">/ ${megabytes(memory.total_mb)}</span></p>
          <${Bar} parts=${[{ value: memory.used_mb, label: megabytes(memory.used_mb) }]} total=${memory.total_mb} label=${`${t("column.memory")} ${percent(memory.percent)}`} />`
      : html`<${Unknown} unknown=${unknown} name="memory" />`}
    <h3>Swap</h3>
    ${swap?.total_mb
      ? html`<p>${megabytes(swap.used_mb)} <span class="quiet">/ ${megabytes(swap.total_mb)}</span></p>
          <${Bar} parts=${[{ value: swap.used_mb, label: megabytes(swap.used_mb), kind: 1 }]} total=${swap.total_mb} label=${`Swap ${percent(swap.percent)}`} />`
      : html`<p class="quiet">${t("monitor.no_swap")}</p>`}
  </section>`;
}

function Disks({ disks, unknown }) {
  if (disks === null && !may("monitor")) return null;
  return html`<section class="card">
    <h2>${t("monitor.disks")}</h2>
    ${disks?.length
      ? disks.map(
          (disk) => html`<div class="disk">
            <p><b class="mono">${disk.mount}</b> <span class="quiet">${megabytes(disk.used_mb)} / ${megabytes(disk.total_mb)}</span></p>
            <${Bar} parts=${[{ value: disk.used_mb, label: megabytes(disk.used_mb), kind: disk.percent > 90 ? "bad" : 2 }]} total=${disk.total_mb} label=${`${disk.mount} ${percent(disk.percent)}`} />
          </div>`,
        )
      : html`<${Unknown} unknown=${unknown} name="disks" />`}
  </section>`;
}

function Network({ network, unknown }) {
  if (network === null && !may("monitor")) return null;
  return html`<section class="card">
    <h2>${t("monitor.network")}</h2>
    ${network?.length
      ? html`<ul class="list">
          ${network.map(
            (one) => html`<li>
              <b class="mono">${one.interface}</b> <span class="quiet">${(one.addresses || []).join(" ")}</span>
              <span class="rate">↓ ${rate(one.received_bps)} ↑ ${rate(one.sent_bps)}</span>
            </li>`,
          )}
        </ul>`
      : html`<${Unknown} unknown=${unknown} name="network" />`}
  </section>`;
}

const rate = (value) => (value === null || value === undefined ? "–" : `${size(value)}/s`);

function Docker({ docker, unknown }) {
  if (docker === null && !may("monitor")) return null;
  const list = Array.isArray(docker) ? docker : docker?.containers;
  return html`<section class="card">
    <h2>Docker</h2>
    ${list
      ? html`<ul class="list">
          ${list.length ? list.map((one) => html`<li><b>${one.name}</b> <span class="quiet">${one.image} ${one.status}</span></li>`) : html`<li class="quiet">${t("monitor.no_containers")}</li>`}
        </ul>`
      : html`<${Unknown} unknown=${unknown} name="docker" />`}
  </section>`;
}

function Processes({ processes, unknown }) {
  if (processes === null && !may("monitor")) return null;
  return html`<section class="card">
    <h2>${t("monitor.processes")}</h2>
    ${processes?.length
      ? html`<div class="scroll" tabindex="0" role="region" aria-label=${t("monitor.processes")}><table class="plain tight">
          <thead><tr>
            <th scope="col">PID</th><th scope="col">${t("column.name")}</th><th scope="col">${t("column.cpu")}</th>
            <th scope="col">${t("column.memory")}</th><th scope="col">${t("column.service")}</th>
          </tr></thead>
          <tbody>
            ${processes.map(
              (one) => html`<tr key=${one.pid}>
                <td>${one.pid}</td><th scope="row">${one.name}</th><td>${percent(one.cpu_percent)}</td><td>${megabytes(one.memory_mb)}</td>
                <td>${one.service ? html`<a href=${to("service", one.service)}>${one.service}</a>` : ""}</td>
              </tr>`,
            )}
          </tbody>
        </table></div>`
      : html`<${Unknown} unknown=${unknown} name="processes" />`}
  </section>`;
}

/** At least a minute, and the last one while nothing was measured yet. */
function minute(from, until) {
  const end = until ?? Date.now() / 1000;
  return [Math.min(from ?? end, end - 60), end];
}

/** CPU and memory of the host since the page was opened. uPlot is loaded for this page only. */
function Chart({ past, count }) {
  const box = useRef(null);
  const plot = useRef(null);
  useEffect(() => {
    let gone = false;
    let watcher = null;
    addSheet();
    import("../../vendor/uplot.mjs").then(({ default: UPlot }) => {
      if (gone || !box.current) return;
      const style = getComputedStyle(document.documentElement);
      const colour = (name) => style.getPropertyValue(name).trim();
      const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
      plot.current = new UPlot(
        {
          width: box.current.clientWidth,
          height: 180,
          scales: { y: { range: [0, 100] }, x: { range: (_, from, until) => minute(from, until) } },
          legend: { show: false },
          cursor: { show: false },
          series: [
            {},
            { label: "CPU", stroke: colour("--c0"), width: 2, points: { show: false }, fill: `${colour("--c0")}22` },
            { label: t("column.memory"), stroke: colour("--c1"), width: 2, points: { show: false } },
          ],
          axes: [
            { ...axis, values: (_, ticks) => ticks.map((tick) => new Date(tick * 1000).toLocaleTimeString(language.value, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" })), space: 90 },
            { ...axis, values: (_, ticks) => ticks.map((tick) => `${tick} %`), size: 52 },
          ],
        },
        [past.at, past.cpu, past.memory],
        box.current,
      );
      watcher = new ResizeObserver(() => box.current && plot.current?.setSize({ width: box.current.clientWidth, height: 180 }));
      watcher.observe(box.current);
    });
    return () => {
      gone = true;
      watcher?.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [theme.value, language.value]);
  useEffect(() => {
    plot.current?.setData([past.at, past.cpu, past.memory]);
  });
  const last = (values) => percent(values[values.length - 1]);
  return html`<section class="card">
    <h2>
      <span class="swatch p-0"></span> CPU ${last(past.cpu)} <span class="swatch p-1"></span> ${t("column.memory")} ${last(past.memory)}
    </h2>
    <div class=${classes("chart", { young: count < 2 })} ref=${box} aria-hidden="true"></div>
  </section>`;
}

function addSheet() {
  if (document.getElementById("uplot-css")) return;
  const link = document.createElement("link");
  link.id = "uplot-css";
  link.rel = "stylesheet";
  link.href = new URL("../../vendor/uplot.css", import.meta.url);
  document.head.append(link);
}
