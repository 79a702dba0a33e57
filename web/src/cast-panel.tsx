import { signal, useSignal } from "@preact/signals";
import { useEffect, useId } from "preact/hooks";

import { addressOf, signedIn } from "./address.ts";
import { cast, castSubject, keepInCast, type Member, nameOf, readCast, removeFromCast } from "./cast.ts";
import { addSubject, isFull, type Subject } from "./document.ts";
import { Icon, IconButton } from "./icons.tsx";

const open = signal(false);
const failure = signal("");

/** Do something with the cast; what fails is said in the panel. */
async function attempt(action: () => Promise<void>): Promise<void> {
  failure.value = "";
  await action().catch((error: Error) => (failure.value = error.message));
}

/** Subjects that the service keeps under a name: each button adds one to the picture. */
export function CastPicker() {
  // Another key may have another cast.
  useEffect(() => {
    if (open.value && signedIn.value > 0) void attempt(readCast);
  }, [signedIn.value]);
  function toggle() {
    open.value = !open.value;
    if (open.value) void attempt(readCast);
  }
  return (
    <div class="cast">
      <button type="button" class="link" aria-expanded={open.value} onClick={toggle}>
        Take one from the cast
      </button>
      {open.value && (
        <div class="cast-list">
          {failure.value && (
            <p class="problem" role="alert">
              {failure.value}
            </p>
          )}
          {cast.value?.map((member) => <MemberButton key={member.name} member={member} />)}
          {cast.value?.length === 0 && <p class="hint">Nobody is in it yet. A subject is kept there by a button on its card, and can then be used in every picture.</p>}
        </div>
      )}
    </div>
  );
}

function MemberButton({ member }: { member: Member }) {
  const { name, phrase, pictures } = member;
  const [picture] = pictures;
  return (
    <div class="member">
      <button type="button" disabled={isFull.value} onClick={() => addSubject(castSubject(member))}>
        {picture && <img src={addressOf(picture.url)} alt="" />}
        <span>
          <b>{name}</b>
          {phrase !== name && <small>{phrase}</small>}
        </span>
      </button>
      <IconButton icon="trash" label={`Remove ${name} from the cast`} onClick={() => confirm(`Remove ${name} from the cast?`) && void attempt(() => removeFromCast(name))} />
    </div>
  );
}

/** Keeps a subject in the cast, under a name. */
export function KeepInCast({ subject }: { subject: Subject }) {
  const id = useId();
  const naming = useSignal(false);
  const name = useSignal("");
  const said = useSignal("");
  const failed = useSignal("");
  if (subject.pictures.length === 0 || subject.phrase === "") return null;

  async function keep(event: Event) {
    event.preventDefault();
    said.value = failed.value = "";
    try {
      await keepInCast(name.value, subject);
      naming.value = false;
      said.value = `Kept in the cast as ${name.value}.`;
    } catch (error) {
      failed.value = (error as Error).message;
    }
  }

  if (!naming.value) {
    return (
      <div class="keep">
        <button
          type="button"
          class="link"
          onClick={() => {
            name.value = nameOf(subject.phrase);
            naming.value = true;
          }}
        >
          Keep it in the cast
        </button>
        <span class="hint" role="status">
          {said.value}
        </span>
      </div>
    );
  }
  return (
    <form class="keep" onSubmit={(event) => void keep(event)}>
      <label for={id}>Its name in the cast</label>
      <input id={id} value={name.value} required pattern="[A-Za-z0-9][A-Za-z0-9_\-]{0,63}" title="Letters, digits, - and _" aria-invalid={failed.value !== ""} onInput={({ currentTarget }) => (name.value = currentTarget.value)} />
      <button type="submit" class="small-button">
        <Icon name="check" /> Keep
      </button>
      <button type="button" class="link" onClick={() => (naming.value = false)}>
        Cancel
      </button>
      {failed.value && (
        <p class="problem" role="alert">
          {failed.value}
        </p>
      )}
    </form>
  );
}
