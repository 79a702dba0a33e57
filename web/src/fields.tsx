import type { ComponentChildren } from "preact";
import { useId, useState } from "preact/hooks";

import { Icon } from "./icons.tsx";
import { shortened } from "./messages.ts";
import { problems, problemsAt, warnings } from "./run.ts";

/** What is wrong with a value, and what to know about it, by its pointer in the request; `but`: what is said elsewhere. */
export function Problems({ at, but = [] }: { at: string; but?: string[] }) {
  const wrong = problemsAt(problems.value, at).filter(({ detail }) => !but.includes(detail));
  return (
    <>
      {wrong.map(({ detail }) => (
        <p key={detail} class="problem" role="alert">
          {shortened(detail)}
        </p>
      ))}
      {problemsAt(warnings.value, at).map(({ detail }) => (
        <p key={detail} class="warning">
          {shortened(detail)}
        </p>
      ))}
    </>
  );
}

interface NumberFieldProps {
  label: string;
  value: number | null | undefined;
  onInput: (value: number | undefined) => void;
  min: number;
  max: number;
  step: number;
  /** The model's own value, while there is none. */
  own?: number | undefined;
  /** What stands in its place where the model has none. */
  empty?: string;
  unit?: string;
  disabled?: boolean | undefined;
  invalid?: boolean;
}

/** A number with steppers. */
export function NumberField({ label, value, onInput, min, max, step, own, empty = "", unit, disabled, invalid }: NumberFieldProps) {
  const id = useId();
  // What is being typed; else a card that is drawn again meanwhile would put the old number back.
  const [typed, setTyped] = useState<string>();
  const decimals = step < 1 ? 2 : 0;
  const tidy = (number: number) => Number(Math.min(Math.max(number, min), max).toFixed(decimals + 2));
  const by = (change: number) => onInput(tidy((value ?? own ?? min) + change));
  return (
    <div class="number">
      <label for={id}>
        {label}
        {unit && <span class="unit"> {unit}</span>}
      </label>
      <div class="stepper">
        <button type="button" aria-label={`Less: ${label}`} disabled={disabled} onClick={() => by(-step)}>
          <Icon name="minus" />
        </button>
        <input
          id={id}
          type="number"
          inputMode="decimal"
          min={min}
          max={max}
          step="any"
          disabled={disabled}
          aria-invalid={invalid}
          value={typed ?? value ?? ""}
          placeholder={own === undefined ? empty : String(own)}
          onInput={({ currentTarget }) => setTyped(currentTarget.value)}
          onBlur={() => setTyped(undefined)}
          onChange={({ currentTarget }) => {
            const text = currentTarget.value;
            setTyped(undefined);
            onInput(text === "" ? undefined : tidy(Number(text)));
          }}
        />
        <button type="button" aria-label={`More: ${label}`} disabled={disabled} onClick={() => by(step)}>
          <Icon name="plus" />
        </button>
      </div>
    </div>
  );
}

/** One of a few, shown side by side. */
export function Segments<T extends string>(props: { label: string; value: T; options: [T, string][]; onChange: (value: T) => void }) {
  const { label, value, options, onChange } = props;
  return (
    <div class="segments" role="group" aria-label={label}>
      {options.map(([option, name]) => (
        <button key={option} type="button" aria-pressed={option === value} onClick={() => onChange(option)}>
          {name}
        </button>
      ))}
    </div>
  );
}

export function Field({ label, children, at }: { label: string; children: ComponentChildren; at?: string }) {
  return (
    <div class="field" data-at={at}>
      <label>
        <span>{label}</span>
        {children}
      </label>
      {at && <Problems at={at} />}
    </div>
  );
}

/** What a button that picks pictures opens. */
export function FileInput(props: { input: { current: HTMLInputElement | null }; label: string; onFiles: (files: File[]) => void }) {
  return (
    <input
      ref={props.input}
      type="file"
      hidden
      multiple
      accept="image/png,image/jpeg,image/webp"
      aria-label={props.label}
      onChange={({ currentTarget }) => {
        props.onFiles([...(currentTarget.files ?? [])]);
        currentTarget.value = "";
      }}
    />
  );
}
