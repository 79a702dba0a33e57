import { useRef } from "preact/hooks";

import { doc, type Options, setOptions } from "./document.ts";
import { FileInput, NumberField, Problems } from "./fields.tsx";
import { Icon } from "./icons.tsx";
import { PictureProblems, Thumbnail } from "./photos.tsx";
import { picturesIn, take } from "./pictures.ts";
import { problems, problemsAt } from "./run.ts";

type Start = NonNullable<Options["start"]>;
type Control = NonNullable<Options["controls"]>[number];

/** One picture: dropped or picked. */
function PictureField({ label, at, picture, onPicture }: { label: string; at: string; picture: string | undefined; onPicture: (picture: string | undefined) => void }) {
  const input = useRef<HTMLInputElement>(null);
  const accept = ([file]: Blob[]) => file && onPicture(take(file));
  return (
    <div
      class="picture-field"
      data-at={at}
      onDragOver={(event) => event.preventDefault()}
      onDrop={(event) => {
        event.preventDefault();
        accept(picturesIn(event.dataTransfer));
      }}
    >
      {picture ? (
        <Thumbnail picture={picture} name={label} onRemove={() => onPicture(undefined)} />
      ) : (
        <button type="button" class="thumbnail more" aria-label={`Pick a picture: ${label}`} title="Pick a picture, or drop one here" onClick={() => input.current!.click()}>
          <Icon name="picture" />
        </button>
      )}
      <FileInput input={input} label={label} onFiles={accept} />
      {picture && <PictureProblems pictures={[picture]} onFiles={accept} onRemove={() => onPicture(undefined)} />}
    </div>
  );
}

/** A picture to start from, how much of it may change, and of which subjects alone. */
export function StartField() {
  const { start } = doc.value.options;
  const { subjects } = doc.value;
  const set = (change: Partial<Start>) => setOptions({ start: { ...start!, ...change } });
  const redraw = start?.redraw ?? [];
  return (
    <fieldset class="field" data-at="/start">
      <legend>Start picture</legend>
      <div class="condition">
        <PictureField label="Start picture" at="/start/image" picture={start?.image} onPicture={(image) => setOptions({ start: image ? { ...start, image } : undefined })} />
        {start ? (
          <div data-at="/start/strength">
            <NumberField
              label="How much may change"
              value={start.strength}
              own={0.7}
              min={0.05}
              max={1}
              step={0.05}
              invalid={problemsAt(problems.value, "/start/strength").length > 0}
              onInput={(strength) => set({ strength: strength ?? null })}
            />
          </div>
        ) : (
          <small>The picture is made from this one instead of from noise.</small>
        )}
      </div>
      {start && subjects.length > 0 && (
        <div class="checks" role="group" aria-label="Redraw only" data-at="/start/redraw">
          <small>Redraw only these; with none, all of it may change:</small>
          {subjects.map(({ key, phrase }, index) => (
            <label key={key} class="check">
              <input
                type="checkbox"
                checked={redraw.includes(index)}
                onChange={({ currentTarget }) => set({ redraw: currentTarget.checked ? [...redraw, index].sort((a, b) => a - b) : redraw.filter((one) => one !== index) })}
              />
              {phrase || `Subject ${index + 1}`}
            </label>
          ))}
        </div>
      )}
      <Problems at="/start" />
    </fieldset>
  );
}

/** Each ControlNet of the model, with the picture that it follows. */
export function ControlFields({ names }: { names: string[] }) {
  const controls = doc.value.options.controls ?? [];
  if (names.length === 0 && controls.length === 0) return null;
  const set = (next: Control[]) => setOptions({ controls: next.length > 0 ? next : undefined });
  const others = controls.map(({ name }) => name).filter((name) => !names.includes(name));
  return (
    <fieldset class="field" data-at="/controls">
      <legend>Controls: pictures whose outlines it follows, of exactly its size</legend>
      {[...names, ...others].map((name) => {
        const index = controls.findIndex((one) => one.name === name);
        const control = controls[index];
        const change = (next: Control | undefined) => set(next && control ? controls.with(index, next) : next ? [...controls, next] : controls.filter((one) => one.name !== name));
        return (
          <div key={name} class="condition">
            <PictureField label={`Control ${name}`} at={`/controls/${index}/image`} picture={control?.image} onPicture={(image) => change(image ? { ...control, name, image } : undefined)} />
            {control ? (
              <NumberField label={`Strength of ${name}`} value={control.scale} own={1} min={0} max={2} step={0.05} onInput={(scale) => change({ ...control, scale: scale ?? null })} />
            ) : (
              <small>{name}</small>
            )}
          </div>
        );
      })}
      <Problems at="/controls" />
    </fieldset>
  );
}
