// The words: the same files as the agent's own (lictor/core/locales), so a sentence is the same here,
// in the command line and in the journal. Numbers, times and sizes follow the reader's language.
import { signal } from "./ui.js";

export const LANGUAGES = { en: "English", ru: "Русский", zh: "中文" };
const UNITS = {
  en: ["s", "min", "h", "d"],
  ru: ["с", "мин", "ч", "д"],
  zh: ["秒", "分钟", "小时", "天"],
};

const assets = new URL("..", import.meta.url);
const loaded = {};

export const language = signal("en");
const words = signal({});
const sentences = signal({});

function preferred() {
  const kept = localStorage.getItem("lictor.language");
  if (kept && LANGUAGES[kept]) return kept;
  const wanted = (navigator.languages || []).map((name) => name.slice(0, 2).toLowerCase());
  return wanted.find((name) => LANGUAGES[name]) || "en";
}

/** Load a language and show everything in it; `keep` remembers the choice in this browser. */
export async function speak(wanted = preferred(), keep = false) {
  loaded[wanted] ??= fetch(new URL(`locales/${wanted}.json`, assets)).then((answer) => answer.json());
  const texts = await loaded[wanted];
  words.value = texts.web;
  sentences.value = texts.reasons;
  language.value = wanted;
  document.documentElement.lang = wanted;
  if (keep) localStorage.setItem("lictor.language", wanted);
}

/** A text of the dashboard. An unknown key shows itself, so that nothing is ever hidden. */
export function t(key, params) {
  const template = words.value[key];
  return template === undefined ? key : fill(template, params || {});
}

/** Whether the dashboard has a text for this key. */
export const has = (key) => words.value[key] !== undefined;

/** A sentence of the agent from its code and parameters; `otherwise` is what the agent wrote. */
export function say(code, params, otherwise) {
  const template = sentences.value[code];
  return template === undefined ? otherwise || code : fill(template, params || {});
}

/** A sentence of the agent that needs no parameters; undefined for one that does, or is not known. */
export function fixed(code) {
  const template = sentences.value[code];
  return template?.includes("{") ? undefined : template;
}

/** Why something is as it is: `reasons` in the reader's language, else the agent's English. */
export function why(record, later = 0) {
  if (Array.isArray(record.reasons) && record.reasons.length) {
    return record.reasons.map((part) => say(part.code, moved(part, later))).join(" ");
  }
  if (record.reason) return say(record.reason, record.reason_params, record.sentence);
  return record.sentence || "";
}

/** What counts seconds goes on counting: `later` seconds after the agent said it. */
function moved({ code, params }, later) {
  if (code === "next_start") return { ...params, delay: Math.max(0, Math.round(params.delay - later)) };
  if (code === "elapsed") return { ...params, elapsed: Math.round(params.elapsed + later) };
  return params;
}

const FIELD = /\{\{|\}\}|\{(\w+)(?::(\w+))?\}/g;

function fill(template, params) {
  return template.replace(FIELD, (whole, name, format) => {
    if (whole === "{{" || whole === "}}") return whole[0];
    const value = params[name];
    if (value === undefined) return "?";
    if (format === "duration") return typeof value === "number" ? duration(value) : "?";
    if (format === "size") return typeof value === "number" ? size(value) : "?";
    if (format === "holders") return holders(String(value));
    if (format === "time") return typeof value === "number" ? clock(value * 1000) : "?";
    if (value === null) return "None"; // as the agent writes it
    return value === true ? "True" : value === false ? "False" : String(value);
  });
}

// Who is on a GPU, as `lictor/core/locales/gpu_words.py` says it: `who bytes word seconds; …`.
const HOLDERS = {
  en: {
    idle: "idle {since}", busy: "busy", pinned: "pinned", needed: "needed by another", recent: "only just started",
    loading: "loading", ending: "being stopped", promised: "about to start",
    ended: "ended, its memory has not come back", orphan: "left over, being ended",
    row: "{who} holds {size} ({word})", stranger: "{who} (not ours) holds {size}", pid: "pid {pid}",
    "?": "somebody", unnamed: "the driver does not say who", unknown: "an unknown amount", nobody: "nobody is on it", between: ", ",
  },
  ru: {
    idle: "простаивает {since}", busy: "занят", pinned: "закреплён", needed: "нужен другому", recent: "только что запущен",
    loading: "загружается", ending: "останавливается", promised: "скоро запустится",
    ended: "завершён, но память не вернулась", orphan: "остался без сервиса, завершается",
    row: "{who} держит {size} ({word})", stranger: "{who} (не наш) держит {size}", pid: "pid {pid}",
    "?": "кто-то", unnamed: "драйвер не говорит кто", unknown: "неизвестно сколько", nobody: "на ней никого нет", between: ", ",
  },
  zh: {
    idle: "空闲 {since}", busy: "使用中", pinned: "已固定", needed: "被其他服务需要", recent: "刚刚启动",
    loading: "加载中", ending: "正在停止", promised: "即将启动", ended: "已结束，但显存尚未归还", orphan: "残留进程，正在结束",
    row: "{who} 占用 {size}（{word}）", stranger: "{who}（非本程序管理）占用 {size}", pid: "pid {pid}",
    "?": "某个程序", unnamed: "驱动未说明是谁", unknown: "未知大小", nobody: "没有占用者", between: "，",
  },
};

function holders(value) {
  const said = HOLDERS[language.value];
  const rows = value ? value.split("; ").map((row) => row.split(" ")) : [];
  if (rows.some((row) => row.length !== 4)) return value;
  const texts = rows.map(([who, count, word, seconds]) => {
    const name = who.startsWith("pid:") ? fill(said.pid, { pid: who.slice(4) }) : said[who] ?? who;
    const held = fill(said[word] ?? word, { since: duration(Number(seconds)) });
    const amount = Number(count) ? size(Number(count)) : said.unknown;
    return fill(word === "stranger" ? said.stranger : said.row, { who: name, size: amount, word: held });
  });
  return texts.join(said.between) || said.nobody;
}

/** A length of time in seconds as people say it: `0.4 s`, `3 min 5 s`, `3 d 4 h`. */
export function duration(seconds) {
  const [second, minute, hour, day] = UNITS[language.value];
  const gap = language.value === "zh" ? "" : " ";
  if (seconds < 10) return `${seconds.toFixed(1).replace(/\.0$/, "")}${gap}${second}`;
  const whole = Math.round(seconds);
  for (const [length, big, smaller, small] of [
    [86400, day, 3600, hour],
    [3600, hour, 60, minute],
    [60, minute, 1, second],
  ]) {
    if (whole >= length) {
      const rest = Math.floor((whole % length) / smaller);
      return `${Math.floor(whole / length)}${gap}${big}${rest ? ` ${rest}${gap}${small}` : ""}`;
    }
  }
  return `${whole}${gap}${second}`;
}

/** An amount of memory in bytes: `512 B`, `6.1 GiB`. */
export function size(bytes) {
  let amount = bytes;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (amount < 1024) return unit === "B" ? `${Math.round(amount)} B` : `${amount.toFixed(1)} ${unit}`;
    amount /= 1024;
  }
  return `${amount.toFixed(1)} TiB`;
}

/** Memory in MiB, as the API gives it. */
export const megabytes = (mib) => (mib === null || mib === undefined ? "–" : size(mib * 1024 * 1024));

export const percent = (value, digits = 0) =>
  value === null || value === undefined ? "–" : `${value.toFixed(value < 10 ? 1 : digits)} %`;

/** A moment as day and time of the reader's place; only the time if it is today. */
export function clock(moment) {
  const when = new Date(moment);
  const today = when.toDateString() === new Date().toDateString();
  const time = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
  const day = today ? {} : { year: "numeric", month: "2-digit", day: "2-digit" };
  return when.toLocaleString(language.value, { ...day, ...time });
}

/** The same moment for the hover: whole, in UTC. */
export const utc = (moment) => `${new Date(moment).toISOString().slice(0, 19).replace("T", " ")} UTC`;
