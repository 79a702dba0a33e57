import { computed, effect, signal } from "@preact/signals";
import { api, MsdClient } from "msd-client";

import { SERVICE, signedIn } from "./address.ts";
import { deniedWords } from "./messages.ts";
import { reach } from "./session.ts";

type Models = NonNullable<Awaited<ReturnType<typeof api.listModels>>["data"]>;
export type Model = Models["models"][number];
export type Abilities = NonNullable<Model["abilities"]>;

export type Inspection = NonNullable<Awaited<ReturnType<typeof api.inspectPicture>>["data"]>;

export const client = new MsdClient({ baseUrl: SERVICE, fetch: reach });

export const model = signal<Model | null>(null);
export const reachable = signal(true);
/** Why this key may not see the model; empty if it may. */
export const denied = signal("");
export const abilities = computed(() => model.value?.abilities ?? null);
export const ownSize = computed(() => {
  const defaults = abilities.value?.defaults;
  return { width: defaults?.width ?? 1024, height: defaults?.height ?? 1024 };
});

const AGAIN_MS = 3000;
const FORBIDDEN = 403;

let reading = false;
/** Read what the model can do, and again until it is ready. */
export async function readModel(): Promise<void> {
  if (reading) return;
  reading = true;
  await readUntilReady().finally(() => (reading = false));
}

async function readUntilReady(): Promise<void> {
  for (;;) {
    const { data, error, response } = await api.listModels({ client: client.http }).catch(() => ({ data: undefined, error: undefined, response: undefined }));
    denied.value = response?.status === FORBIDDEN ? deniedWords((error as { detail?: string }).detail ?? "") : "";
    reachable.value = data !== undefined || denied.value !== "";
    if (denied.value) return;
    if (data) model.value = data.models[0] ?? null;
    if (model.value?.ready && reachable.value) return;
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
}

/** Another key may see more. */
export function readModelOnSignIn(): void {
  effect(() => {
    if (signedIn.value > 0) void readModel();
  });
}
