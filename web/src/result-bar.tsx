import { signal } from "@preact/signals";

import { addressOf } from "./address.ts";
import { addPictures } from "./arrive.ts";
import { copyText } from "./copy.ts";
import { addSubject, type Document, edit, isFull } from "./document.ts";
import { Icon, IconButton, type IconName } from "./icons.tsx";
import type { Kept } from "./kept.ts";
import { chanceOf, weakestOf } from "./redraws.ts";
import { Chance, Redraws, remove } from "./results.tsx";
import { redraw, run } from "./run.ts";
import { shown, urlOf, view, withBoxes } from "./view.ts";

const copied = signal(false);
const EXTENSIONS: Record<string, string> = { "image/webp": "webp", "image/jpeg": "jpg" };

/** What is known of the picture that is shown, and what can be done with it. */
export function ResultBar() {
  const result = shown.value;
  if (!result) return null;
  const { seed, width, height, document, blob } = result;
  const { num_images: _, ...options } = document.options;
  return (
    <>
      <div class="result-bar" role="group" aria-label="This picture">
        <button type="button" class="seed" title="Copy the seed" onClick={() => void copySeed(seed)}>
          <Icon name={copied.value ? "check" : "copy"} /> Seed {seed}
        </button>
        <span class="size">
          {width} × {height}
        </span>
        <span class="spring" />
        <IconButton icon="draw" label="Show the boxes" pressed={withBoxes.value} onClick={() => (withBoxes.value = !withBoxes.value)} />
        <Act icon="dice" label="Same seed" title="Same seed, to change one thing" onClick={() => restore({ ...document, options: { ...options, seed } })} />
        <Act icon="restore" label="Restore" title="Restore the request of this picture" onClick={() => restore(document)} />
        <Act icon="picture" label="As reference" title="Use this picture as a reference" disabled={!blob || isFull.value} onClick={() => useAsReference(blob!)} />
        <a class="act" href={addressOf(urlOf(result))} download={`msd-${seed}.${EXTENSIONS[blob?.type ?? ""] ?? "png"}`} title="Download">
          <Icon name="download" />
          <span>Download</span>
        </a>
        <IconButton icon="trash" label="Remove this picture from the history" onClick={() => remove(result)} />
      </div>
      <Subjects result={result} />
      <Redraws result={result} />
    </>
  );
}

/** A button whose words are hidden where there is no room. */
function Act({ icon, label, title, disabled, onClick }: { icon: IconName; label: string; title: string; disabled?: boolean; onClick: () => void }) {
  return (
    <button type="button" class="act" title={title} aria-label={title} disabled={disabled} onClick={onClick}>
      <Icon name={icon} />
      <span>{label}</span>
    </button>
  );
}

/** The subjects with their scores; each can be drawn again while the rest of the picture stays. */
function Subjects({ result }: { result: Kept }) {
  const { score, document } = result;
  const weakest = score ? weakestOf(score) : undefined;
  return (
    <ul class="scores" aria-label="Subjects">
      {document.subjects.map(({ key, phrase, box, scene }, index) => {
        const known = score?.subjects.find(({ subject }) => subject === index);
        const present = known && known.present !== null ? `In its box: ${Math.round(known.present * 100)} %` : undefined;
        return (
          <li key={key} data-weakest={index === weakest} title={present}>
            {phrase} {known && <Chance value={chanceOf(known)} weakest={index === weakest} />}
            {box && !scene && (
              <button type="button" disabled={run.value !== null} aria-label={`Redraw ${phrase}`} title={`Redraw ${phrase} only; the rest of the picture stays`} onClick={() => void redraw(result, index)}>
                <Icon name="redraw" />
              </button>
            )}
          </li>
        );
      })}
    </ul>
  );
}

function restore(document: Document): void {
  edit(() => document);
  view.value = "layout";
}

function useAsReference(blob: Blob): void {
  addPictures(addSubject().key, [blob]);
  view.value = "layout";
}

async function copySeed(seed: number): Promise<void> {
  copied.value = await copyText(String(seed));
  setTimeout(() => (copied.value = false), 1500);
}
