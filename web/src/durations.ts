const MINUTE = 60;
/** From here on nobody counts seconds. */
const LONG = 90;

/** How long something takes, in words. */
export const about = (seconds: number): string =>
  seconds < LONG ? `about ${Math.max(1, Math.round(seconds))} s` : `about ${Math.round(seconds / MINUTE)} min`;
