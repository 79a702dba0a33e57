import { doc, setOptions } from "./document.ts";
import { ControlFields, StartField } from "./conditions.tsx";
import { Field, NumberField, Problems } from "./fields.tsx";
import { problems, problemsAt } from "./run.ts";
import { abilities, ownSize } from "./service.ts";
import { shapes } from "./boxes.ts";

/** All that the model lets one choose; what is empty has the model's own value. */
export function OptionsPanel() {
  const known = abilities.value;
  const { options } = doc.value;
  if (!known) return <p class="hint">Shown once the model is loaded.</p>;
  const { defaults, presets, schedulers, loras, controls, scores } = known;
  const preset = presets.find(({ name }) => name === options.preset);
  return (
    <div class="options">
      {presets.length > 0 && (
        <Field label="Preset" at="/preset">
          <select value={options.preset ?? ""} onChange={({ currentTarget }) => setOptions({ preset: currentTarget.value || undefined })}>
            <option value="">None</option>
            {presets.map(({ name, available }) => (
              <option key={name} disabled={!available}>
                {name}
              </option>
            ))}
          </select>
          {preset && <small>{preset.description}</small>}
        </Field>
      )}
      <SizeFields />
      <div class="grid">
        <Amount name="num_images" label="Pictures" own={1} min={1} max={8} step={1} />
        <Seed />
        <Amount name="num_inference_steps" label="Steps" own={preset?.num_inference_steps ?? defaults.num_inference_steps} min={1} max={150} step={1} />
        <Amount name="guidance_scale" label="Guidance" own={preset?.guidance_scale ?? defaults.guidance_scale} min={0} max={50} step={0.5} />
        <Amount name="scale" label="Strength of subjects" own={preset?.scale ?? defaults.scale} min={0} max={2} step={0.05} />
      </div>
      <Field label="What the picture should not show" at="/negative_prompt">
        {/* Words of the model itself stand here as text, so that they can be taken out. */}
        <textarea
          data-edits
          rows={2}
          value={options.negative_prompt ?? defaults.negative_prompt}
          onInput={({ currentTarget: { value } }) => setOptions({ negative_prompt: value === defaults.negative_prompt ? undefined : value })}
        />
      </Field>
      {schedulers.length > 1 && (
        <Field label="Sampler" at="/scheduler">
          <select value={options.scheduler ?? ""} onChange={({ currentTarget }) => setOptions({ scheduler: (currentTarget.value || undefined) as typeof options.scheduler })}>
            <option value="">The model's: {defaults.scheduler}</option>
            {schedulers.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </Field>
      )}
      <Loras names={loras} />
      <ControlFields names={controls} />
      <StartField />
      {scores && <Scoring />}
      <Field label="File format" at="/output_format">
        <select value={options.output_format ?? "png"} onChange={({ currentTarget }) => setOptions({ output_format: currentTarget.value === "png" ? undefined : (currentTarget.value as "webp" | "jpeg") })}>
          <option value="png">PNG</option>
          <option value="webp">WebP</option>
          <option value="jpeg">JPEG</option>
        </select>
      </Field>
      <Others />
    </div>
  );
}

/** Names of the fields above. */
const SHOWN = new Set(
  "preset num_images seed num_inference_steps guidance_scale scale width height negative_prompt scheduler loras controls start score retries output_format".split(" "),
);

/** What a restored or pasted request has that no field shows. */
function Others() {
  const others = Object.entries(doc.value.options).filter(([name]) => !SHOWN.has(name));
  if (others.length === 0) return null;
  return (
    <fieldset class="field">
      <legend>Also in this request</legend>
      {others.map(([name, value]) => (
        <div key={name} data-at={`/${name}`}>
          <code>
            {name}: {JSON.stringify(value)}
          </code>{" "}
          <button type="button" class="link" onClick={() => setOptions({ [name]: undefined })}>
            Leave it out
          </button>
          <Problems at={`/${name}`} />
        </div>
      ))}
    </fieldset>
  );
}

type AmountName = "num_images" | "seed" | "num_inference_steps" | "guidance_scale" | "scale" | "width" | "height";

function Amount({ name, ...props }: { name: AmountName; label: string; own?: number; empty?: string; min: number; max: number; step: number }) {
  const at = `/${name}`;
  return (
    <div data-at={at}>
      <NumberField {...props} value={doc.value.options[name]} invalid={problemsAt(problems.value, at).length > 0} onInput={(value) => setOptions({ [name]: value })} />
      <Problems at={at} />
    </div>
  );
}

/** Empty, each picture has another. */
function Seed() {
  const isGiven = doc.value.options.seed !== undefined;
  return (
    <div class="seed-field">
      <Amount name="seed" label="Seed" empty="random" min={0} max={2 ** 53 - 1} step={1} />
      {isGiven && (
        <button
          type="button"
          class="link"
          title="Another seed for each picture"
          onClick={({ currentTarget }) => {
            currentTarget.parentElement!.querySelector("input")!.focus();
            setOptions({ seed: undefined });
          }}
        >
          Random
        </button>
      )}
    </div>
  );
}

function SizeFields() {
  const known = abilities.value!;
  const own = ownSize.value;
  const most = { width: known.max_width, height: known.max_height };
  const named = known.sizes.length > 0 ? known.sizes.map((size) => ({ ...size, name: "" })) : shapes(own, most);
  const { width = own.width, height = own.height } = doc.value.options;
  const value = (size: { width?: number | null; height?: number | null }) => `${size.width}x${size.height}`;
  return (
    <>
      <Field label="Shape">
        <select
          value={value({ width, height })}
          onChange={({ currentTarget }) => {
            const size = named.find((one) => value(one) === currentTarget.value);
            const isOwn = size?.width === own.width && size.height === own.height;
            if (size) setOptions(isOwn ? { width: undefined, height: undefined } : { width: size.width, height: size.height });
          }}
        >
          {!named.some((size) => value(size) === value({ width, height })) && <option value={value({ width, height })}>Other</option>}
          {named.map((size) => (
            <option key={value(size)} value={value(size)}>
              {size.name} {size.width} × {size.height}
            </option>
          ))}
        </select>
      </Field>
      <div class="grid">
        <Amount name="width" label="Width in pixels" own={own.width} min={8} max={most.width} step={8} />
        <Amount name="height" label="Height in pixels" own={own.height} min={8} max={most.height} step={8} />
      </div>
    </>
  );
}

function Loras({ names }: { names: string[] }) {
  const chosen = doc.value.options.loras ?? [];
  if (names.length === 0) return null;
  const set = (loras: typeof chosen) => setOptions({ loras: loras.length > 0 ? loras : undefined });
  return (
    <fieldset class="field" data-at="/loras">
      <legend>LoRAs</legend>
      {names.map((name) => {
        const lora = chosen.find((one) => one.name === name);
        return (
          <div key={name} class="row">
            <label class="check">
              <input type="checkbox" checked={lora !== undefined} onChange={({ currentTarget }) => set(currentTarget.checked ? [...chosen, { name }] : chosen.filter((one) => one.name !== name))} />
              {name}
            </label>
            {lora && <NumberField label="Weight" value={lora.weight} own={1} min={-4} max={4} step={0.1} onInput={(weight) => set(chosen.map((one) => (one.name === name ? { name, ...(weight !== undefined && { weight }) } : one)))} />}
          </div>
        );
      })}
      <Problems at="/loras" />
    </fieldset>
  );
}

function Scoring() {
  const { score, retries } = doc.value.options;
  return (
    <div class="row" data-at="/score">
      <label class="check">
        <input type="checkbox" checked={!!score} onChange={({ currentTarget }) => setOptions({ score: currentTarget.checked || undefined, retries: undefined })} />
        Score the subjects
      </label>
      {score && <NumberField label="Draw again at most" value={retries} own={0} min={0} max={3} step={1} onInput={(value) => setOptions({ retries: value })} />}
      <Problems at="/score" />
      <Problems at="/retries" />
    </div>
  );
}
