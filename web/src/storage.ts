type Kind = "localStorage" | "sessionStorage";

/** What the browser remembers under a name; null where it has no storage, or there stands no JSON. */
export function recall(name: string, kind: Kind = "localStorage"): unknown {
  try {
    return JSON.parse(window[kind].getItem(name) ?? "null");
  } catch {
    return null;
  }
}

/** Remember a value, where the browser has room; the page works without. */
export function remember(name: string, value: unknown, kind: Kind = "localStorage"): void {
  try {
    window[kind].setItem(name, JSON.stringify(value));
  } catch {
    // A private window may have no storage.
  }
}
