// The one place that binds the vendored libraries together; every other module imports from here.
import { h, render, Fragment } from "../vendor/preact.mjs";
import htm from "../vendor/htm.mjs";

export const html = htm.bind(h);
export { h, render, Fragment };
export { useEffect, useRef, useState, useMemo, useLayoutEffect, useCallback } from "../vendor/hooks.mjs";
export { signal, computed, effect, batch, useSignal } from "../vendor/signals.mjs";

/** Class names from a map: classes({ busy: true, old: false }) is "busy". */
export function classes(...parts) {
  return parts
    .flatMap((part) =>
      !part ? [] : typeof part === "string" ? [part] : Object.keys(part).filter((name) => part[name]),
    )
    .join(" ");
}
