// Colours of log lines as pieces of text. The agent makes every control character visible (`\x1b`);
// here the colour sequences, and nothing else, become colours again. Text nodes only: no HTML is made.
import { AnsiUp } from "../vendor/ansi_up.mjs";
import { html } from "./ui.js";

const COLOUR = /\\x1b(?=\[[0-9;:]{0,40}m)/g;
const ESC = String.fromCharCode(27);

class Pieces extends AnsiUp {
  pieces(text) {
    this.found = [];
    this.ansi_to_html(text + ESC + "[0m");
    return this.found;
  }
  transform_to_html(piece) {
    if (piece.text) this.found.push(piece);
    return "";
  }
  process_hyperlink() {
    return ""; // a log line links to nowhere
  }
}

/** The pieces of one line: [{ text, fg, bg, bold, faint, italic, underline }]. */
export function pieces(line) {
  if (!line.includes("\\x1b[")) return [{ text: line }];
  return new Pieces().pieces(line.replaceAll(ESC, "").replace(COLOUR, ESC));
}

/** The line as people read it, without colours. */
export const plain = (line) => pieces(line).map((piece) => piece.text).join("");

/** One line as nodes; `mark` is the text that was searched for. */
export function line(text, mark) {
  return pieces(text).map((piece) => {
    const name = [
      piece.fg && paint("fg", piece.fg),
      piece.bg && paint("bg", piece.bg),
      piece.bold && "a-bold",
      piece.faint && "a-faint",
      piece.italic && "a-italic",
      piece.underline && "a-under",
    ].filter(Boolean);
    const inner = mark ? marked(piece.text, mark) : piece.text;
    return name.length ? html`<span class=${name.join(" ")}>${inner}</span>` : inner;
  });
}

// The sixteen colours follow the theme; the others are brought to the nearest of them, because a
// colour that is legible on black is often not on white.
function paint(where, colour) {
  if (colour.class_name && colour.class_name !== "truecolor") {
    return `a-${where}-${colour.class_name.replace("ansi-", "")}`;
  }
  return `a-${where}-${nearest(colour.rgb)}`;
}

function nearest([red, green, blue]) {
  const high = Math.max(red, green, blue);
  const low = Math.min(red, green, blue);
  if (high - low < 40) return high > 170 ? "white" : high > 60 ? "bright-black" : "black";
  const middle = (high + low) / 2;
  const index = (red > middle ? 1 : 0) + (green > middle ? 2 : 0) + (blue > middle ? 4 : 0);
  return ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"][index];
}

function marked(text, mark) {
  const parts = text.split(mark);
  return parts.flatMap((part, index) => (index ? [html`<mark>${mark}</mark>`, part] : [part]));
}
