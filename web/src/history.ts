/** Undo and redo of an immutable value. */
export interface History<T> {
  past: T[];
  now: T;
  future: T[];
  /** Of the last edit; edits with the same tag that follow soon are one. */
  tag: string;
  /** When that was, in milliseconds. */
  at: number;
}

export const DEPTH = 100;
const TOGETHER_MS = 1000;

export const started = <T>(now: T): History<T> => ({ past: [], now, future: [], tag: "", at: 0 });

/** Add an edit. With an empty tag it is always an edit by itself. */
export function edited<T>(history: History<T>, now: T, tag: string, at: number): History<T> {
  const joins = tag !== "" && tag === history.tag && at - history.at < TOGETHER_MS;
  const past = joins ? history.past : [...history.past, history.now].slice(-DEPTH);
  return { past, now, future: [], tag, at };
}

export function undone<T>({ past, now, future }: History<T>): History<T> {
  if (past.length === 0) return { past, now, future, tag: "", at: 0 };
  return { past: past.slice(0, -1), now: past.at(-1)!, future: [now, ...future], tag: "", at: 0 };
}

export function redone<T>({ past, now, future }: History<T>): History<T> {
  if (future.length === 0) return { past, now, future, tag: "", at: 0 };
  return { past: [...past, now], now: future[0]!, future: future.slice(1), tag: "", at: 0 };
}
