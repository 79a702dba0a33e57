import type { Kept } from "./kept.ts";

/** What was drawn again because of its score, in order; undefined if nothing was. */
export function redrawsOf({ score, document }: Pick<Kept, "score" | "document">): string | undefined {
  // Pictures that were kept before this was told have none.
  const redraws: NonNullable<Kept["score"]>["redraws"] = score?.redraws ?? [];
  const told = redraws.map(({ subject, kept }) => {
    const what = subject === null ? "all" : document.subjects[subject]?.phrase || `subject ${subject}`;
    return kept ? what : `${what} (no better, not kept)`;
  });
  return told.length > 0 ? `Drawn again: ${told.join(", ")}` : undefined;
}
