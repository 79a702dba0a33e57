import { addressOf } from "./address.ts";
import { describe } from "./boxes.ts";
import { placed } from "./box-view.tsx";
import type { Document } from "./document.ts";
import { afterwards } from "./focus.ts";
import { forget, forgetAll, keep, type Kept } from "./kept.ts";
import { chanceOf, redrawsOf, weakestOf } from "./redraws.ts";
import { reach } from "./session.ts";
import { note, results, show, shown, urlOf, view, withBoxes } from "./view.ts";

const NOT_FOUND = 404;

export const nameOf = ({ seed, document }: Kept): string => `Picture of the seed ${seed}: ${document.prompt}`;
const showing = ({ seed, document }: Kept): string => `Show the picture of the seed ${seed}: ${document.prompt}`;

export function Picture({ result, alt }: { result: Kept; alt: string }) {
  return <img class="backdrop" src={addressOf(urlOf(result))} alt={alt} loading="lazy" onError={() => void removeIfGone(result)} />;
}

/** Where the subjects of a picture should be; seen while it is pointed at or has the focus. */
export function Places({ document }: { document: Document }) {
  return (
    <>
      {document.subjects.map(({ key, phrase, box, scene, colour }) =>
        box && !scene ? (
          <span key={key} class="box" aria-hidden="true" style={{ ...placed(box), "--colour": `var(--c${colour % 8})` }}>
            <span class="tag">{phrase || "unnamed"}</span>
          </span>
        ) : null,
      )}
    </>
  );
}

/** One picture, as large as the room. */
export function PictureView() {
  const result = shown.value;
  if (!result) return null;
  const { width, height, document } = result;
  const described = document.subjects.flatMap(({ phrase, box, scene }) => (box && !scene ? [describe(phrase, box)] : []));
  return (
    <div class="stage made" role="group" aria-label="Picture with its boxes" tabIndex={-1} data-boxes={withBoxes.value} style={{ "--wide": width, "--tall": height }}>
      <Picture result={result} alt={nameOf(result)} />
      <Places document={document} />
      <p class="visually-hidden">Its boxes: {described.join("; ")}</p>
    </div>
  );
}

/** All pictures side by side. */
export function Gallery() {
  return (
    <ol class="gallery" aria-label="Pictures made before, side by side">
      {results.value.map((result) => (
        <li key={result.key}>
          <button type="button" class="made tile" data-boxes={withBoxes.value} style={{ "--wide": result.width, "--tall": result.height }} aria-label={showing(result)} onClick={() => show(result.key)}>
            <Picture result={result} alt="" />
            <Places document={result.document} />
          </button>
          <span class="tile-words">Seed {result.seed}</span>
          <Scores result={result} />
          <Redraws result={result} />
        </li>
      ))}
    </ol>
  );
}

/** All pictures as a strip beside the stage. */
export function Strip() {
  if (results.value.length === 0 || view.value === "all") return null;
  return (
    <nav class="strip" aria-label="Pictures made before">
      <ol>
        {results.value.map((result) => (
          <li key={result.key}>
            <button type="button" aria-label={showing(result)} aria-current={view.value === "picture" && shown.value?.key === result.key} onClick={() => show(result.key)}>
              <Picture result={result} alt="" />
            </button>
          </li>
        ))}
      </ol>
      <EmptyHistory />
    </nav>
  );
}

/** How much room the history takes, and its end. */
export function EmptyHistory() {
  const bytes = results.value.reduce((sum, { blob }) => sum + (blob?.size ?? 0), 0);
  return (
    <button type="button" class="link" title="Remove all pictures from the history of this browser" onClick={empty}>
      Empty · {size(bytes)}
    </button>
  );
}

const size = (bytes: number): string => (bytes < 1_000_000 ? `${Math.ceil(bytes / 1000)} kB` : `${(bytes / 1_000_000).toFixed(1)} MB`);

export function remove(picture: Kept): void {
  takeOut(picture);
  note("The picture is removed from the history.", () => bringBack([picture]));
}

function takeOut({ key }: Kept): void {
  results.value = results.value.filter((one) => one.key !== key);
  if (results.value.length === 0) close();
  void forget(key);
}

function bringBack(pictures: Kept[]): void {
  results.value = [...results.value, ...pictures].sort((a, b) => b.at - a.at);
  for (const picture of pictures) void keep(picture);
  focusStage();
}

/** Remove a picture that the service has no longer; one that is only out of reach stays. */
async function removeIfGone(result: Kept): Promise<void> {
  const answer = result.blob ? undefined : await reach(addressOf(result.url)).catch(() => undefined);
  if (answer?.status === NOT_FOUND) takeOut(result);
}

function empty(): void {
  const pictures = results.value;
  results.value = [];
  close();
  void forgetAll();
  note("The history of this browser is empty.", () => bringBack(pictures));
}

/** Back to the boxes, with the focus. */
function close(): void {
  view.value = "layout";
  focusStage();
}

const focusStage = (): unknown => afterwards(() => document.querySelector<HTMLElement>(".stage")?.focus());

/** How well each subject turned out; the weakest is marked, and null is "cannot tell". */
export function Scores({ result: { score, document } }: { result: Kept }) {
  if (!score) return null;
  const weakest = weakestOf(score);
  return (
    <ul class="scores" aria-label="Scores">
      {score.subjects.map(({ subject, ...chances }) => (
        <li key={subject} data-weakest={subject === weakest}>
          {document.subjects[subject]?.phrase ?? subject} <Chance value={chanceOf(chances)} weakest={subject === weakest} />
        </li>
      ))}
    </ul>
  );
}

/** What was drawn again because of its score. */
export function Redraws({ result }: { result: Kept }) {
  const told = redrawsOf(result);
  return told === undefined ? null : <span class="tile-words redraws">{told}</span>;
}

export function Chance({ value, weakest }: { value: number | null; weakest: boolean }) {
  return (
    <>
      {value === null ? "cannot tell" : `${Math.round(value * 100)} %`}
      {weakest && <em>weakest</em>}
    </>
  );
}
