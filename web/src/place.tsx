import { type Side, sideOf, withSide } from "./boxes.ts";
import { setSubject, type Subject } from "./document.ts";
import { NumberField } from "./fields.tsx";
import { Icon } from "./icons.tsx";
import { paint } from "./painting.ts";
import { NotSent } from "./photos.tsx";
import { markMissing, pictureOf } from "./pictures.ts";
import { AREAS, ASPECTS, PLACES, withArea, withAspect } from "./presets.ts";
import { size } from "./view.ts";

const SIDES: [Side, string][] = [
  ["left", "Left"],
  ["top", "Top"],
  ["width", "Width"],
  ["height", "Height"],
];
const AS_PICTURE = "As its picture";

/** Where a subject stands, without dragging. */
export function Place({ subject }: { subject: Subject }) {
  const { key, phrase, box, mask, locked, pictures } = subject;
  if (mask) return <PaintedShape subject={subject} mask={mask} />;
  if (!box) return <PaintButton subject={subject} />;
  const name = phrase || "unnamed";
  return (
    <fieldset class="box-fields" disabled={locked}>
      <legend>Box, in percent of the picture</legend>
      {SIDES.map(([side, label]) => (
        <NumberField
          key={side}
          label={label}
          value={Math.round(sideOf(box, side) * 1000) / 10}
          min={0}
          max={100}
          step={1}
          disabled={locked}
          onInput={(value) => value !== undefined && setSubject(key, { box: withSide(box, side, value / 100) }, side)}
        />
      ))}
      <div class="choices">
        <Choice label={`Place of ${name}`} first="Put it …" names={PLACES.map(({ name }) => name)} onChoose={(at) => setSubject(key, { box: PLACES[at]!.box })} />
        <Choice label={`Size of ${name}`} first="Size …" names={AREAS.map(({ name }) => name)} onChoose={(at) => setSubject(key, { box: withArea(box, AREAS[at]!.area) })} />
        <Choice
          label={`Shape of ${name}`}
          first="Shape …"
          names={[...ASPECTS.map(({ name }) => name), ...(pictures.length > 0 ? [AS_PICTURE] : [])]}
          onChoose={(at) => {
            const shape = ASPECTS[at];
            if (shape) setSubject(key, { box: withAspect(box, shape.aspect, size.value) });
            else void shapeAsPicture(subject);
          }}
        />
      </div>
      <PaintButton subject={subject} />
    </fieldset>
  );
}

function PaintButton({ subject: { key, locked } }: { subject: Subject }) {
  return (
    <button type="button" class="link paint" disabled={locked} onClick={() => void paint(key)}>
      <Icon name="brush" /> Paint its shape instead
    </button>
  );
}

function PaintedShape({ subject: { key, phrase, locked }, mask }: { subject: Subject; mask: string }) {
  const { url, state } = pictureOf(mask);
  return (
    <div class="painted">
      {state === "missing" ? <span class="problem">The service has its painted shape no longer.</span> : <img src={url} alt={`Painted shape of ${phrase || "unnamed"}`} onError={() => void markMissing(mask)} />}
      <NotSent picture={mask} />
      <button type="button" class="link" disabled={locked} onClick={() => void paint(key)}>
        Paint on
      </button>
      <button type="button" class="link" disabled={locked} onClick={() => setSubject(key, { mask: undefined })}>
        Use a box
      </button>
    </div>
  );
}

async function shapeAsPicture({ key, box, pictures }: Subject): Promise<void> {
  const image = new Image();
  image.src = pictureOf(pictures[0]!).url;
  // It may have gone from the service.
  await image.decode().catch(() => undefined);
  if (image.naturalHeight > 0) setSubject(key, { box: withAspect(box!, image.naturalWidth / image.naturalHeight, size.value) });
}

/** A list that does something with what is chosen, and goes back to its title. */
function Choice({ label, first, names, onChoose }: { label: string; first: string; names: string[]; onChoose: (at: number) => void }) {
  return (
    <select
      aria-label={label}
      value=""
      onChange={({ currentTarget }) => {
        const at = names.indexOf(currentTarget.value);
        currentTarget.value = "";
        if (at >= 0) onChoose(at);
      }}
    >
      <option value="">{first}</option>
      {names.map((name) => (
        <option key={name}>{name}</option>
      ))}
    </select>
  );
}
