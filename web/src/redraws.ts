import type { Kept } from "./kept.ts";

type Score = NonNullable<Kept["score"]>;

/** The lower of both probabilities of a subject, by which `retries` decides; null if neither is known. */
export function chanceOf({ present, identity }: Pick<Score["subjects"][number], "present" | "identity">): number | null {
  const known = [present, identity].filter((value) => value !== null);
  return known.length > 0 ? Math.min(...known) : null;
}

/** Index of the subject that turned out worst; undefined if there is only one, or nothing is known. */
export function weakestOf({ subjects }: Pick<Score, "subjects">): number | undefined {
  const chances = subjects.map(chanceOf);
  const known = chances.filter((chance) => chance !== null);
  const least = Math.min(...known);
  const isAlone = known.length > 1 && known.filter((chance) => chance === least).length === 1;
  return isAlone ? subjects[chances.indexOf(least)]!.subject : undefined;
}

/** What was drawn again because of its score, in order; undefined if nothing was. */
export function redrawsOf({ score, document }: Pick<Kept, "score" | "document">): string | undefined {
  // Pictures that were kept before this was told have none.
  const redraws: Score["redraws"] = score?.redraws ?? [];
  const told = redraws.map(({ subject, kept }) => {
    const what = subject === null ? "all" : document.subjects[subject]?.phrase || `subject ${subject + 1}`;
    return kept ? what : `${what} (no better, not kept)`;
  });
  return told.length > 0 ? `Drawn again: ${told.join(", ")}` : undefined;
}
