import { addPictures } from "./arrive.ts";
import { freePlace } from "./boxes.ts";
import { KeepInCast } from "./cast-panel.tsx";
import { spanOf } from "./check.ts";
import { boxesOf, chosen, doc, duplicate, isFull, ownWords, removeSubject, setSubject, shiftOrder, type Subject } from "./document.ts";
import { NumberField, Problems } from "./fields.tsx";
import { keepFocus } from "./focus.ts";
import { IconButton } from "./icons.tsx";
import { CutOuts, Photos, SubjectPictureProblems } from "./photos.tsx";
import { detailOf, pictureOf, picturesIn } from "./pictures.ts";
import { Place } from "./place.tsx";
import { addToPrompt } from "./prompt.ts";
import { problems, problemsAt } from "./run.ts";
import { abilities } from "./service.ts";

/** Whether a mouse or a finger is down: a card that opened now would shift what is pressed. */
let pressed = false;
addEventListener("pointerdown", () => (pressed = true), true);
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => (pressed = false), true);

/** Strength of a scene that has none of its own, as the API has it. */
const SCENE_SCALE = 0.4;

export function Card({ subject, index, count }: { subject: Subject; index: number; count: number }) {
  const { key, phrase, colour } = subject;
  const isChosen = chosen.value === key;
  const at = `/subjects/${index}`;
  const name = phrase || "unnamed";
  // Where it has words of its own, the prompt is not read.
  const unnamed = phrase !== "" && !ownWords(subject) && spanOf(index) === null;
  return (
    <article
      class="card"
      aria-label={`Subject: ${name}`}
      data-at={at}
      data-chosen={isChosen}
      style={{ "--colour": `var(--c${colour % 8})` }}
      onClickCapture={() => (chosen.value = key)}
      onFocusCapture={() => !pressed && (chosen.value = key)}
      onDragOver={(event) => event.preventDefault()}
      onDrop={(event) => {
        const files = picturesIn(event.dataTransfer);
        if (files.length === 0) return;
        event.preventDefault();
        addPictures(key, files);
      }}
    >
      <div class="card-head">
        <Photos subject={subject} at={at} />
        <div class="card-words">
          <input
            class="phrase"
            data-edits
            data-at={`${at}/phrase`}
            aria-label="What the pictures show, as the prompt says it"
            aria-invalid={problemsAt(problems.value, `${at}/phrase`).length > 0}
            placeholder="What is it? Such as: cat"
            value={phrase}
            onInput={({ currentTarget }) => setSubject(key, { phrase: currentTarget.value }, "phrase")}
          />
          <Tools subject={subject} index={index} count={count} />
        </div>
      </div>
      <SubjectPictureProblems subject={subject} />
      <Problems at={at} but={subject.pictures.map((picture) => detailOf(pictureOf(picture)))} />
      {unnamed && (
        <button type="button" class="link" onClick={() => addToPrompt(phrase)}>
          Add “{phrase}” to the prompt
        </button>
      )}
      {isChosen && <Details subject={subject} at={at} />}
    </article>
  );
}

function Tools({ subject, index, count }: { subject: Subject; index: number; count: number }) {
  const { key, phrase, box, scene, locked } = subject;
  const name = phrase || "unnamed";
  return (
    <div class="card-tools">
      {box === null && !scene ? (
        <button type="button" class="link" onClick={() => setSubject(key, { box: freePlace(boxesOf(doc.value.subjects)) })}>
          Place it
        </button>
      ) : (
        <IconButton icon={locked ? "lock" : "unlock"} label={`Lock the box of ${name}`} pressed={!!locked} onClick={() => setSubject(key, { locked: !locked })} />
      )}
      <IconButton icon="backward" label={`Move ${name} one to the front`} disabled={index === count - 1} onClick={() => shiftOrder(key, 1)} />
      <IconButton icon="forward" label={`Move ${name} one to the back`} disabled={index === 0} onClick={() => shiftOrder(key, -1)} />
      <IconButton icon="copy" label={`Duplicate ${name}`} disabled={isFull.value} onClick={() => duplicate(subject)} />
      <IconButton icon="trash" label={`Remove ${name}`} onClick={() => keepFocus(() => removeSubject(key))} />
    </div>
  );
}

function Details({ subject, at }: { subject: Subject; at: string }) {
  const { key, phrase, pictures, prompt, scale, cutout, scene } = subject;
  return (
    <div class="details">
      {!scene && <Place subject={subject} />}
      <label class="field" title="In its place they stand for what the picture shows as a whole; with them it needs no picture">
        <span>Words for its place alone</span>
        <textarea
          rows={2}
          data-edits
          data-at={`${at}/prompt`}
          aria-invalid={problemsAt(problems.value, `${at}/prompt`).length > 0}
          placeholder="Such as: a cat in the rain"
          value={prompt ?? ""}
          onInput={({ currentTarget: { value } }) => setSubject(key, { prompt: value || undefined }, "prompt")}
        />
      </label>
      <div class="row">
        <div data-at={`${at}/scale`}>
          <NumberField
            label="Strength"
            value={scale}
            own={scene ? SCENE_SCALE : (doc.value.options.scale ?? abilities.value?.defaults.scale ?? 1)}
            min={0}
            max={2}
            step={0.05}
            invalid={problemsAt(problems.value, `${at}/scale`).length > 0}
            onInput={(value) => setSubject(key, { scale: value }, "scale")}
          />
        </div>
        <div class="checks">
          <label class="check" title="Leaves out what is around it in its pictures">
            <input type="checkbox" data-at={`${at}/cutout`} checked={!!cutout} onChange={({ currentTarget }) => setSubject(key, { cutout: currentTarget.checked })} />
            Cut it out
          </label>
          <label class="check" title="Its picture shows a whole scene and fills the picture, behind all others">
            <input type="checkbox" data-at={`${at}/scene`} checked={!!scene} onChange={({ currentTarget }) => setSubject(key, { scene: currentTarget.checked })} />
            It is the scene
          </label>
        </div>
      </div>
      {cutout && <CutOuts pictures={pictures} name={phrase || "unnamed"} />}
      <KeepInCast key={key} subject={subject} />
    </div>
  );
}
