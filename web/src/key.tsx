import { useSignal } from "@preact/signals";
import { useEffect, useId, useLayoutEffect, useRef } from "preact/hooks";

import type { RefusedKey } from "./messages.ts";
import { asked, owner, signIn, signOut } from "./session.ts";
import { note } from "./view.ts";

/** Whoever is amid a word would write the rest of it into the field. */
const STILL_MS = 1000;
const SENDABLE = /^[\x21-\x7e]+$/;
let lastKey = -STILL_MS;
addEventListener("keydown", ({ timeStamp }) => (lastKey = timeStamp), { capture: true });

/** Asks for a key while the service wants one. */
export function KeyDialog() {
  const isStill = useSignal(false);
  const isAsked = asked.value !== "no";
  useEffect(() => {
    isStill.value = false;
    if (!isAsked) return;
    const wait = () => {
      const left = lastKey + STILL_MS - performance.now();
      if (left > 0) timer = setTimeout(wait, left);
      else isStill.value = true;
    };
    let timer: ReturnType<typeof setTimeout> | undefined;
    wait();
    return () => clearTimeout(timer);
  }, [isAsked]);
  return isAsked && isStill.value ? <Dialog /> : null;
}

function Dialog() {
  const dialog = useRef<HTMLDialogElement>(null);
  const title = useId();
  useLayoutEffect(() => {
    const before = document.activeElement;
    const element = dialog.current!;
    element.showModal();
    return () => {
      element.close();
      const back = before instanceof HTMLElement && before.isConnected && before !== document.body ? before : document.querySelector<HTMLElement>(".stage");
      back?.focus();
    };
  }, []);
  return (
    // Without a key there is nothing to go on with, so Escape leaves it.
    <dialog ref={dialog} class="key" aria-labelledby={title} onCancel={(event) => event.preventDefault()} onClose={() => asked.value !== "no" && dialog.current?.showModal()}>
      <h2 id={title}>This service asks for a key</h2>
      <p class="hint">
        {asked.value === "again" && "Your session has ended; all that is on this page stays. "}
        Whoever runs the service gives you one. The page does not keep it.
      </p>
      <KeyForm />
    </dialog>
  );
}

function KeyForm() {
  const field = useRef<HTMLInputElement>(null);
  const id = useId();
  const refused = useSignal<RefusedKey | null>(null);
  const left = useSignal(0);
  const sending = useSignal(false);
  useEffect(() => {
    const end = Date.now() + (refused.value?.seconds ?? 0) * 1000;
    const count = () => (left.value = Math.max(0, Math.ceil((end - Date.now()) / 1000)));
    count();
    const timer = setInterval(count, 250);
    return () => clearInterval(timer);
  }, [refused.value]);

  async function send(event: Event) {
    event.preventDefault();
    if (sending.value || left.value > 0) return;
    sending.value = true;
    const key = field.current!.value.trim();
    const wrong = SENDABLE.test(key) ? await signIn(key) : { words: "A key has letters, digits, - and _ only.", seconds: 0 };
    sending.value = false;
    if (!wrong) return;
    refused.value = wrong;
    field.current?.select();
  }

  return (
    <form onSubmit={(event) => void send(event)}>
      {/* Managers of passwords file the key under it. */}
      <input type="text" name="username" autoComplete="username" value="MS-Diffusion" readOnly hidden />
      <label for={id}>Key</label>
      <div class="key-row">
        <input ref={field} id={id} type="password" name="key" autoComplete="current-password" required autofocus spellcheck={false} aria-invalid={refused.value !== null} aria-describedby={`${id}-words`} />
        <button type="submit" class="sign-in" aria-disabled={sending.value || left.value > 0}>
          {left.value > 0 ? `In ${left.value} s` : "Sign in"}
        </button>
      </div>
      <p id={`${id}-words`} class={refused.value ? "problem" : undefined} role="alert">
        {refused.value?.words}
      </p>
    </form>
  );
}

/** Whose session it is, and its end; nothing where there is none. */
export function SignOut() {
  if (owner.value === null) return null;
  const leave = async () => (await signOut()) || note("The service cannot be reached: you are still signed in.");
  return (
    <button type="button" class="sign-out" title={`Signed in as ${owner.value}`} onClick={() => void leave()}>
      <span>{owner.value}</span> Sign out
    </button>
  );
}
