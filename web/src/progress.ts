/** How far a job is. */
export interface Progress {
  phase: string;
  step?: number | null;
  steps?: number | null;
  /** Of all its steps. */
  fraction: number;
}

/** The further of two reports: after a new connection the old steps are reported once more. */
export const furthest = <T extends Progress>(before: Progress, now: T): Progress | T => (now.fraction < before.fraction ? before : now);
